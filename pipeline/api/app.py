"""The service as a FastAPI application: routes, errors, headers, figures."""

import hmac
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from detection.labels import PLAIN_IDS, SECTIONS, kind_of, load_pack
from pipeline.api.bodies import ApiError, checked, content_type, drain, fields_of, photo_of, read_form, read_json
from pipeline.api.engine import Desk, Engine
from pipeline.api.shapes import (
    CommentsOut,
    Correction,
    ErrorOut,
    LabelsOut,
    Listed,
    Wish,
    element_list,
)
from pipeline.feedback import save_correction

PAGE = Path(__file__).parents[1] / "page"
HEADERS = {
    # `self` alone: the page can neither load from nor send to anywhere else
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TYPES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}


@dataclass(frozen=True)
class Serving:
    """How the service serves.

    Attributes:
        workers: threads that work on requests.
        queue: requests that may wait beside them; the next is sent away with 503.
        timeout: seconds that a request may take, its upload included.
        api_key: asked for in `X-API-Key` or as a bearer token; None asks for none.
        cors: an origin whose pages may ask, "*" for all; None: only the service's own page.
        feedback: the JSONL file that corrections are written to; None: they are refused.
    """

    workers: int = 2
    queue: int = 16
    timeout: float = 30.0
    api_key: str | None = None
    cors: str | None = None
    feedback: Path | None = None


class Figures:
    """What `/metrics` tells."""

    def __init__(self, desk: Desk) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("daetgeul_requests", "Requests by path and status", ["path", "status"], **own)
        self.seconds = Histogram("daetgeul_request_seconds", "Seconds a request took", ["path"], **own)
        self.stages = Counter("daetgeul_stage_seconds", "Seconds spent by stage of the work", ["stage"], **own)
        self.comments = Counter("daetgeul_comments", "Comments by who wrote them", ["source"], **own)
        Gauge("daetgeul_inside", "Requests worked on or waiting", **own).set_function(lambda: desk.inside)

    def count(self, answer: dict) -> None:
        """Count a done answer."""
        for stage, ms in answer["timings_ms"].items():
            if stage != "total":
                self.stages.labels(stage).inc(ms / 1000)
        for comment in answer["comments"]:
            self.comments.labels(comment["source"]).inc()


def create_app(engine: Engine, serving: Serving = Serving()) -> FastAPI:  # noqa: B008 (frozen)
    """The application, page included.

    Args:
        engine: what looks and writes; anything with the methods of `Engine` will do.
    """
    desk = Desk(serving.workers, serving.queue, serving.timeout)
    figures = Figures(desk)

    @asynccontextmanager
    async def lifespan(_: FastAPI):
        yield
        desk.close()

    app = FastAPI(
        title="Daetgeul",
        version=_version(),
        summary="A photo goes in, a good comment comes out.",
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _answer_errors(app)
    _add_layers(app, serving, figures)
    keyed = [Depends(_key_check(serving.api_key))]
    _add_comments(app, engine, desk, figures, keyed)
    _add_the_rest(app, engine, desk, serving, figures, keyed)
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def _add_comments(app: FastAPI, engine: Engine, desk: Desk, figures: Figures, keyed: list) -> None:
    """The two routes that write."""

    async def from_list(request: Request, work: Callable) -> dict:
        wish = await read_json(request, Listed)
        return await work(engine.listed, element_list(wish.elements, engine.lang(wish)), wish)

    async def from_form(request: Request, work: Callable) -> dict:
        form = await read_form(request)
        fields, photo = fields_of(form, ("avoid",)), await photo_of(form)
        if (photo is None) == ("elements" not in fields):
            raise ApiError(422, "bad_request", "send either a file `photo` or a text `elements`")
        if photo is None:
            wish = checked(lambda: Listed.model_validate(fields))
            return await work(engine.listed, element_list(wish.elements, engine.lang(wish)), wish)
        wish = checked(lambda: Wish.model_validate(fields))
        return await work(engine.photo, *photo, wish)

    @app.post(
        "/v1/comments",
        response_model=CommentsOut,
        responses=_errors(400, 401, 403, 413, 415, 422, 503),
        dependencies=keyed,
        openapi_extra={"requestBody": _body(form=True)},
    )
    async def comments(request: Request):
        """Comments for a photo, or for elements that are told."""
        async with desk.place() as work:
            if content_type(request) == "multipart/form-data":
                answer = await from_form(request, work)
            else:
                answer = await from_list(request, work)
        figures.count(answer)
        return answer

    @app.post(
        "/v1/comments:rewrite",
        response_model=CommentsOut,
        responses=_errors(400, 401, 403, 413, 415, 422, 503),
        dependencies=keyed,
        openapi_extra={"requestBody": _body(form=False)},
    )
    async def rewrite(request: Request):
        """New comments for elements that somebody edited; no photo is looked at."""
        async with desk.place() as work:
            answer = await from_list(request, work)
        figures.count(answer)
        return answer


def _add_the_rest(app: FastAPI, engine, desk: Desk, serving: Serving, figures: Figures, keyed: list) -> None:
    """Names, choices, corrections, health and figures."""

    @app.get("/v1/labels", response_model=LabelsOut, responses=_errors(401, 422), dependencies=keyed)
    def labels(lang: Literal["ko", "en"] = "ko"):
        """Everything that makes an element, with its name in a language."""
        pack = load_pack(lang)
        ids = [i for section in SECTIONS.values() for i in section if i not in PLAIN_IDS]
        return {"lang": lang, "labels": [{"id": i, "kind": kind_of(i), "name": pack.name(i)} for i in ids]}

    @app.get("/v1/options", responses=_errors(401), dependencies=keyed)
    def options() -> dict:
        """What may be chosen: writers, languages, styles; and whether corrections are saved here."""
        return {**engine.options(), "feedback": serving.feedback is not None}

    @app.post(
        "/v1/feedback",
        status_code=201,
        responses=_errors(400, 401, 403, 413, 415, 422, 503),
        dependencies=keyed,
        openapi_extra={"requestBody": _feedback_body()},
    )
    async def feedback(request: Request) -> dict:
        """Save a correction, with its photo where one is sent; only where the server was started to."""
        if not serving.feedback:
            raise ApiError(403, "not_saved", "this server saves no corrections (start it with --save-feedback FILE)")
        if content_type(request) != "multipart/form-data":
            raise ApiError(415, "media_type", "send multipart/form-data")
        async with desk.place() as work:
            form = await read_form(request)
            text, photo = fields_of(form).get("correction", ""), await photo_of(form)
            correction = checked(lambda: Correction.model_validate_json(text))
            try:
                await work(save_correction, serving.feedback, correction.model_dump(), photo and photo[0])
            except ValueError as error:  # the photo's
                raise ApiError(422, getattr(error, "kind", "bad_request"), str(error)) from None
        return {"saved": True}

    @app.get("/health")
    def health() -> dict:
        """Whether the service answers, and how full it is."""
        return {"status": "ok", "inside": desk.inside, "places": desk.most}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics():
        """Figures for Prometheus."""
        return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)


def _key_check(key: str | None) -> Callable:
    def check(request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("x-api-key") or (token if scheme.lower() == "bearer" else "")
        if key and not hmac.compare_digest(given.encode(), key.encode()):
            message = "send the API key as `X-API-Key` or as a bearer token"
            raise ApiError(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})

    return check


def _answer_errors(app: FastAPI) -> None:
    """Every error is `{"error": {"type", "message"}}`, and none tells of our insides."""

    def answer(status: int, kind: str, message: str, headers: dict | None = None) -> JSONResponse:
        return JSONResponse({"error": {"type": kind, "message": message}}, status, headers)

    @app.exception_handler(ApiError)
    async def _(request: Request, error: ApiError):
        await drain(request)
        return answer(error.status, error.kind, str(error), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def _(_: Request, error: ClientDisconnect):
        return answer(400, "disconnected", "the sender left")  # nobody reads it, but it is counted

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError):
        first = error.errors()[0]
        return answer(422, "bad_request", f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException):
        await drain(request)
        return answer(error.status_code, TYPES.get(error.status_code, "failed"), str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception):
        return answer(500, "internal", "something went wrong here; the server's log tells more")


def _add_layers(app: FastAPI, serving: Serving, figures: Figures) -> None:
    """Headers, counting and, where asked for, CORS."""
    paths = {"/v1/comments", "/v1/comments:rewrite", "/v1/labels", "/v1/options", "/v1/feedback", "/health", "/metrics"}

    @app.middleware("http")
    async def around(request: Request, call_next):
        start, path = time.perf_counter(), request.url.path if request.url.path in paths else "page"
        if request.method == "POST" and _is_foreign(request, serving.cors):
            # a form on any web page can post to this machine: it must not fill the file of corrections
            body = {"error": {"type": "origin", "message": "pages of other origins may not ask (see --cors)"}}
            response: Response = JSONResponse(body, 403)
        else:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        figures.requests.labels(path, response.status_code).inc()
        figures.seconds.labels(path).observe(time.perf_counter() - start)
        return response

    if serving.cors:
        from fastapi.middleware.cors import CORSMiddleware

        headers = ["X-API-Key", "Authorization", "Content-Type"]
        app.add_middleware(CORSMiddleware, allow_origins=[serving.cors], allow_methods=["*"], allow_headers=headers)


def _is_foreign(request: Request, cors: str | None) -> bool:
    """Whether a browser asks for a page of another origin."""
    origin = request.headers.get("origin")
    return bool(origin) and cors not in ("*", origin) and urlsplit(origin).netloc != request.headers.get("host")


def _errors(*statuses: int) -> dict:
    return {status: {"model": ErrorOut} for status in statuses}


def _body(form: bool) -> dict:
    """The request body of the comment routes for the OpenAPI document: they read it themselves, within bounds."""
    listed = {"application/json": {"schema": _flat(Listed.model_json_schema())}}
    if not form:
        return {"required": True, "content": listed}
    schema = _flat(Wish.model_json_schema())
    # in a form there is no null: what is not chosen is left out
    for name, field in schema["properties"].items():
        if "anyOf" in field:
            schema["properties"][name] = {**field["anyOf"][0], "description": field.get("description", "")}
    photo = {"type": "string", "format": "binary", "description": "at most 20 MB and 50 megapixels"}
    schema["properties"] |= {"photo": photo}
    schema["required"] = ["photo"]
    example = {"lang": "ko", "style": "polite", "count": 3}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema, "example": example}, **listed}}


def _feedback_body() -> dict:
    schema = {
        "type": "object",
        "required": ["correction"],
        "properties": {
            "correction": {"type": "string", "description": "JSON: lang, style, seen, kept, comment"},
            "photo": {"type": "string", "format": "binary"},
        },
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _flat(schema: dict) -> dict:
    """A JSON schema with its `$defs` put where they are used: the document's own references point elsewhere."""
    parts = schema.pop("$defs", {})

    def put(node):
        if isinstance(node, dict):
            if "$ref" in node:
                return put(parts[node["$ref"].rpartition("/")[2]])
            return {key: put(value) for key, value in node.items()}
        return [put(item) for item in node] if isinstance(node, list) else node

    return put(schema)


def _version() -> str:
    try:
        return version("daetgeul")
    except PackageNotFoundError:
        return "0"
