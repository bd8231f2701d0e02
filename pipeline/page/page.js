// The page over the service's API: one photo at a time, everything else is asked of `v1/…` on the same server.

const WORDS = {
  ko: {
    title: "댓글", photo: "사진", comments: "댓글",
    drop: "사진을 놓아 주세요", dropHow: "끌어다 놓거나, 붙여 넣거나, 고르면 돼요.",
    choose: "사진 고르기", take: "사진 찍기", another: "다른 사진",
    elements: "사진에서 본 것", elementsHow: "틀린 것은 지우거나 이름을 눌러 고치고, 빠진 것은 더해 주세요. 댓글이 바로 바뀌어요.",
    add: "더할 것 (예: 모자)", addIt: "더하기", remove: "지우기", rename: "이름 고치기",
    lang: "언어", style: "말투", writer: "작가", polite: "존댓말", casual: "반말", ko: "한국어", en: "English",
    reroll: "다른 댓글 보기", copy: "복사", copied: "복사했어요", "whole comment": "손으로 쓴 댓글",
    empty: "사진을 올리면 어울리는 댓글 세 개를 써 드려요.",
    tender: "조심스러운 사진일 수 있어요", because: "에서 그렇게 보여요. 다정한 말을 골랐어요. 아무 말 없이 곁에 있어 주는 것도 좋아요.",
    here: "🔒 이 컴퓨터 밖으로 나가는 것은 없어요", there: "🔒 사진은 이 서버로만 가고 남지 않아요",
    honest: "댓글은 제안이에요. 틀릴 수 있으니 올리기 전에 꼭 읽어 보세요. 표정만으로 사람을 판단하지 말아 주세요.",
    keep: "고친 것을 배움에 쓰도록 저장하기: 댓글을 복사할 때 본 것, 고친 것, 고른 댓글과 사진이 이 서버의 파일에 남아요.",
    saved: "고친 것을 저장했어요.", nothing: "알아본 것이 없어요. 더해 주세요.",
    looking: "사진을 보고 있어요…", done: (n) => `댓글 ${n}개를 썼어요.`, dark: "어둡게 보기", light: "밝게 보기",
    tooLarge: "20 MB가 넘는 사진은 볼 수 없어요.", offline: "서버가 대답하지 않아요. 켜져 있는지 봐 주세요.",
    key: "API 키", keyIt: "확인", keyAsked: "이 서버는 API 키가 필요해요.",
    not_an_image: "사진이 아니거나 모르는 형식이에요.", damaged: "사진 파일이 깨졌어요.", too_large: "사진이 너무 커요.",
    empty_file: "빈 파일이에요.", needs_extra: "서버에 이 형식을 읽는 부품이 없어요. JPEG로 저장해 주세요.",
    busy: "지금 붐벼요. 잠시 뒤에 다시 해 주세요.", timeout: "너무 오래 걸렸어요. 더 작은 사진으로 해 보세요.",
    noPreview: "이 브라우저는 이 사진을 보여 주지 못하지만, 댓글은 쓸 수 있어요.",
  },
  en: {
    title: "Daetgeul", photo: "Photo", comments: "Comments",
    drop: "Drop a photo here", dropHow: "Drag it in, paste it, or choose one.",
    choose: "Choose a photo", take: "Take a photo", another: "Another photo",
    elements: "What was seen", elementsHow: "Remove what is wrong, press a name to change it, add what is missing. The comments follow at once.",
    add: "Add something (a hat …)", addIt: "Add", remove: "Remove", rename: "Rename",
    lang: "Language", style: "Tone", writer: "Writer", polite: "Warm", casual: "Playful", ko: "한국어", en: "English",
    reroll: "Other comments", copy: "Copy", copied: "Copied", "whole comment": "written by hand",
    empty: "Give it a photo, and it writes three comments that fit.",
    tender: "This may be a delicate photo", because: ": that is why. The words are gentle. Saying nothing and being there is fine, too.",
    here: "🔒 Nothing leaves this computer", there: "🔒 Photos go to this server only and are not kept",
    honest: "Comments are suggestions and can be wrong: read them before you post. Please judge nobody by their face.",
    keep: "Save my corrections to learn from: when a comment is copied, what was seen, what you changed, the comment and the photo stay in a file on this server.",
    saved: "Your corrections are saved.", nothing: "Nothing was recognised. Add something.",
    looking: "Looking at the photo…", done: (n) => `${n} comments are written.`, dark: "Dark", light: "Light",
    tooLarge: "Photos above 20 MB cannot be read.", offline: "The server does not answer. Is it running?",
    key: "API key", keyIt: "OK", keyAsked: "This server asks for an API key.",
    not_an_image: "This is no photo, or a format unknown here.", damaged: "The photo's file is damaged.", too_large: "The photo is too large.",
    empty_file: "The file is empty.", needs_extra: "The server lacks what reads this format. Save it as JPEG.",
    busy: "Too busy right now. Try again in a moment.", timeout: "That took too long. Try a smaller photo.",
    noPreview: "This browser cannot show the photo, but it can be commented.",
  },
};
const FACE = "#e0503a", THINGS = ["#1f6fd6", "#00877a", "#8e24aa", "#b85c00", "#546e7a", "#2e7d32", "#c2185b"];
const MOST_BYTES = 20e6, COUNT = 3, PAUSE = 250, SIDE = 1600;

const $ = (id) => document.getElementById(id);
const state = {
  words: "ko", lang: "ko", style: "polite", writer: "t5", langChosen: false,
  file: null, seen: [], elements: [], comments: [], size: null, seed: 0, tender: null,
  said: [], busy: null, // `said`: comments of the photos before this one, so that openings and emoji vary
};
const word = (key) => WORDS[state.words][key];

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function remembered(name, value) { // a private window may refuse
  try { return value === undefined ? localStorage.getItem(name) : localStorage.setItem(name, value); } catch { return null; }
}

// ---- asking the service

async function ask(path, body) {
  state.busy?.abort();
  state.busy = new AbortController();
  return send(path, body, state.busy.signal);
}

async function send(path, body, signal, tries = 3) {
  const headers = {};
  const key = sessionStorage.getItem("key");
  if (key) headers["X-API-Key"] = key;
  if (body && !(body instanceof FormData)) headers["Content-Type"] = "application/json";
  const content = body && !(body instanceof FormData) ? JSON.stringify(body) : body;
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: content, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : { type: "offline" };
  }
  if (response.ok) return response.json();
  if (response.status === 503 && tries > 1) {
    await new Promise((go) => setTimeout(go, 1000 * (Number(response.headers.get("Retry-After")) || 1)));
    return send(path, body, signal, tries - 1);
  }
  throw (await response.json().catch(() => ({}))).error ?? { type: "offline" };
}

const wish = () => ({ lang: state.lang, style: state.style, writer: state.writer, seed: state.seed, count: COUNT });

async function comment(question) {
  $("problem").hidden = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    show(await question());
  } catch (error) {
    if (error.name === "AbortError") return;
    complain(error);
  }
  document.body.removeAttribute("aria-busy");
  $("frame").classList.remove("busy");
  $("comments").classList.remove("stale");
}

function take(file) {
  if (!file) return;
  if (state.comments.length) state.said = [...state.said, state.comments[0].text].slice(-60);
  Object.assign(state, { file, seen: [], elements: [], comments: [], size: null, seed: 0, tender: null });
  if (file.size > MOST_BYTES) return complain({ type: "tooLarge" });
  draw(file);
  for (const [id, hidden] of [["drop", true], ["frame", false], ["again", false], ["told", true], ["more", true], ["tender", true]]) $(id).hidden = hidden;
  $("boxes").replaceChildren();
  $("frame").classList.add("busy");
  $("comments").replaceChildren(...Array.from({ length: COUNT }, () => make("li", { class: "ghost", "aria-hidden": "true" })));
  $("status").textContent = word("looking");
  const form = new FormData();
  form.append("photo", file, file.name || "photo");
  for (const [name, value] of Object.entries(wish())) form.append(name, value);
  for (const text of state.said) form.append("avoid", text);
  comment(async () => {
    const answer = await ask("v1/comments", form);
    state.seen = answer.elements;
    state.size = [answer.width, answer.height];
    return answer;
  });
}

let waiting;
function rewrite(pause = PAUSE) {
  if (!state.size) return;
  clearTimeout(waiting);
  $("comments").classList.add("stale");
  const elements = state.elements.map(({ id, name, score, count, boxes }) => ({ id, name, score, count, boxes }));
  waiting = setTimeout(() => comment(() => ask("v1/comments:rewrite", { ...wish(), elements, avoid: state.said })), pause);
}

function complain(error) {
  const { type, message } = error;
  $("problem").textContent = word(type) ?? message ?? String(error);
  $("problem").hidden = false;
  $("status").textContent = "";
  if (!state.comments.length) empty();
  if (type === "unauthorized") {
    $("problem").textContent = word("keyAsked");
    $("key").hidden = false;
    $("secret").focus();
  }
}

// ---- showing

async function draw(file) {
  const canvas = $("canvas");
  try {
    const photo = await createImageBitmap(file); // upright: EXIF orientation is applied
    const scale = Math.min(1, SIDE / Math.max(photo.width, photo.height));
    canvas.width = Math.round(photo.width * scale);
    canvas.height = Math.round(photo.height * scale);
    canvas.getContext("2d").drawImage(photo, 0, 0, canvas.width, canvas.height);
    photo.close();
  } catch {
    Object.assign(canvas, { width: 1200, height: 800 });
    $("status").textContent = word("noPreview");
  }
  $("frame").style.setProperty("--ratio", canvas.width / canvas.height);
}

function show(answer) {
  state.elements = answer.elements;
  state.comments = answer.comments;
  state.tender = answer.tender;
  $("told").hidden = $("more").hidden = false;
  $("status").textContent = word("done")(answer.comments.length);
  render();
}

const colour = (element) => {
  const things = state.elements.filter((e) => e.kind !== "emotion");
  return element.kind === "emotion" ? FACE : THINGS[things.indexOf(element) % THINGS.length];
};
const called = (element) => (element.count > 1 ? `${element.name} ×${element.count}` : element.name);

function render() {
  $("chips").replaceChildren(...(state.elements.length ? state.elements.map(chip) : [make("li", { class: "faint" }, word("nothing"))]));
  $("boxes").replaceChildren(...state.elements.flatMap(boxes));
  $("comments").replaceChildren(...state.comments.map(bubble));
  $("canvas").setAttribute("aria-label", `${word("photo")}: ${state.elements.map(called).join(", ")}`);
  $("tender").hidden = !state.tender;
  if (state.tender) {
    const names = state.elements.filter((e) => state.tender.because.includes(e.id)).map((e) => e.name).join(", ");
    $("why").textContent = names + word("because");
  }
}

function boxes(element) {
  const [width, height] = state.size;
  return (element.kind === "moment" ? [] : element.boxes).map(([x1, y1, x2, y2]) => { // a moment is the whole picture's
    const box = make("div", { class: "box", "data-element": element.id }, make("span", {}, element.name));
    const own = { left: x1 / width, top: y1 / height, width: (x2 - x1) / width, height: (y2 - y1) / height };
    for (const [name, share] of Object.entries(own)) box.style[name] = `${100 * share}%`;
    box.style.setProperty("--own", colour(element));
    box.classList.toggle("over", own.top > 0.08);
    box.classList.toggle("flush", own.left > 0.8);
    return box;
  });
}

function light(id) {
  $("boxes").classList.toggle("lit", Boolean(id));
  for (const node of document.querySelectorAll(".box, .chip")) node.classList.toggle("on", Boolean(id) && node.dataset.element === id);
}
const lights = (id) => ({ onmouseenter: () => light(id), onmouseleave: () => light(null), onfocusin: () => light(id), onfocusout: () => light(null) });

function chip(element) {
  const remove = () => {
    state.elements = state.elements.filter((e) => e !== element);
    render();
    ($("chips").querySelector("button") ?? $("word")).focus();
    rewrite();
  };
  const node = make("li", { class: "chip", "data-element": element.id, ...lights(element.id) });
  node.style.setProperty("--own", colour(element));
  const name = make("button", { type: "button", class: "name", "aria-label": `${called(element)}: ${word("rename")}`, onclick: () => rename(node, element) }, called(element));
  node.append(name, make("button", { type: "button", class: "drop-it", "aria-label": `${element.name}: ${word("remove")}`, onclick: remove }, "×"));
  return node;
}

function rename(node, element) {
  const input = make("input", { list: "labels", maxlength: 40, value: element.name, "aria-label": word("rename") });
  const end = (name) => {
    if (!input.isConnected || input.done) return;
    input.done = true;
    const changed = clean(name);
    if (changed && changed !== element.name) {
      const { score, count, boxes, kind } = element;
      state.elements = state.elements.map((e) => (e === element ? { name: changed, id: undefined, kind, score, count, boxes } : e));
      rewrite(0);
    }
    render();
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") end(input.value);
    if (event.key === "Escape") end("");
  });
  input.addEventListener("blur", () => end(input.value));
  node.replaceChildren(input);
  input.focus();
  input.select();
}

const clean = (text) => text.replace(/[,<>\u0000-\u001f\u007f]/g, " ").trim().replace(/\s+/g, " ");

function bubble(comment) {
  const text = make("p", { lang: state.lang });
  const points = Array.from(comment.text); // evidence counts code points, not UTF-16 units
  let at = 0;
  for (const span of comment.evidence) {
    const element = state.elements.find((e) => e.id === span.element);
    if (!element) continue;
    const mark = make("mark", { tabindex: 0, ...lights(element.id) }, points.slice(span.start, span.end).join(""));
    mark.style.setProperty("--own", colour(element));
    text.append(points.slice(at, span.start).join(""), mark);
    at = span.end;
  }
  text.append(points.slice(at).join(""));
  const copy = make("button", { type: "button", class: "copy", onclick: () => copied(comment, copy) }, word("copy"));
  const foot = make("div", { class: "foot" }, comment.source === "model" ? "" : word(comment.source), copy);
  return make("li", { class: "comment" }, text, foot);
}

async function copied(comment, button) {
  try {
    await navigator.clipboard.writeText(comment.text);
  } catch { // no permission, or not a secure origin
    const area = make("textarea", { readonly: true }, comment.text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = `✓ ${word("copied")}`;
  $("status").textContent = word("copied");
  setTimeout(() => { button.textContent = word("copy"); }, 1800);
  if ($("keep").checked) save(comment).catch(complain);
}

async function save(comment) {
  const correction = { lang: state.lang, style: state.style, seen: state.seen, kept: state.elements, comment: comment.text };
  const form = new FormData();
  form.append("correction", JSON.stringify(correction));
  form.append("photo", state.file, state.file.name || "photo");
  await send("v1/feedback", form);
  $("status").textContent = word("saved");
}

function empty() {
  $("comments").replaceChildren(make("li", { class: "empty" }, word("empty")));
}

// ---- the page's own words, switches and look

function translate() {
  document.documentElement.lang = state.words;
  document.title = state.words === "ko" ? "댓글 · Daetgeul" : "Daetgeul";
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = word(node.dataset.word);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", word(node.dataset.label));
  for (const node of document.querySelectorAll("[data-hint]")) node.placeholder = word(node.dataset.hint);
  const other = state.words === "ko" ? "en" : "ko";
  Object.assign($("interface"), { textContent: WORDS[other][other], lang: other });
  const own = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  $("private").textContent = word(own ? "here" : "there");
  switches();
  look(document.documentElement.dataset.theme);
  if (state.comments.length) render();
  else if (!document.body.hasAttribute("aria-busy")) empty();
}

function switches() {
  for (const [name, values] of [["lang", ["ko", "en"]], ["style", ["polite", "casual"]], ["writer", state.writers ?? [state.writer]]]) {
    const held = $(name).contains(document.activeElement);
    const row = make("div", { class: "switch" }, ...values.map((value) => {
      const input = make("input", { type: "radio", name, value, onchange: () => choose(name, value) });
      input.checked = state[name] === value;
      const shown = name === "writer" ? value.replace(/^t5$/, "T5").replace(/^gpt2$/, "GPT-2").replace(/^bank$/, word("whole comment")) : word(value);
      return make("label", {}, input, make("span", {}, shown));
    }));
    $(name).querySelector(".switch")?.remove();
    $(name).append(row);
    if (held) row.querySelector(":checked").focus();
  }
}

function choose(name, value) {
  state[name] = value;
  if (name === "lang") {
    state.langChosen = true;
    names();
  }
  rewrite(0);
}

function look(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "☀" : "☾";
  $("theme").setAttribute("aria-label", word(theme === "dark" ? "light" : "dark"));
}

async function names() {
  const { labels } = await send(`v1/labels?lang=${state.lang}`);
  $("labels").replaceChildren(...labels.map(({ name }) => make("option", { value: name })));
}

async function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  state.words = remembered("words") ?? (navigator.language.startsWith("ko") ? "ko" : "en");
  look(remembered("theme") ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => remembered("theme") ?? look(dark.matches ? "dark" : "light"));
  translate();
  try {
    const options = await send("v1/options");
    Object.assign(state, options.default, { lang: state.words, writers: options.writers });
    $("save").hidden = !options.feedback;
    switches();
    await names();
  } catch (error) {
    complain(error);
  }
}

$("interface").addEventListener("click", () => {
  state.words = state.words === "ko" ? "en" : "ko";
  remembered("words", state.words);
  translate();
  if (!state.langChosen) { // comments follow the page until somebody wants otherwise
    state.lang = state.words;
    switches();
    names();
    rewrite(0);
  }
});
$("theme").addEventListener("click", () => {
  look(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  remembered("theme", document.documentElement.dataset.theme);
});
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("secret").value);
  $("key").hidden = $("problem").hidden = true;
  start().then(() => state.file && !state.comments.length && take(state.file));
});
$("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = clean($("word").value);
  $("word").value = "";
  if (!name) return;
  state.elements = [...state.elements, { name, kind: "object", score: 1, count: 1, boxes: [] }];
  render();
  rewrite(0);
});
$("reroll").addEventListener("click", () => {
  state.seed += 1;
  rewrite(0);
});
for (const id of ["file", "camera", "next", "cameraNext"]) {
  $(id).addEventListener("change", () => {
    take($(id).files[0]);
    $(id).value = "";
  });
}
const pictured = (transfer) => [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/") || /\.hei[cf]$/i.test(file.name));
addEventListener("paste", (event) => take(pictured(event.clipboardData)));
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    $("photo").classList.add("over");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget ?? $("photo").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("photo").classList.remove("over");
  take(pictured(event.dataTransfer) ?? event.dataTransfer.files[0]);
});
start();
