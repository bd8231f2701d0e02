"""Files are whole or not there; lines end at line feeds alone."""

import pytest

from common.files import read_jsonl, read_lines, whole_file, write_json, write_jsonl, write_text


def test_what_fails_leaves_the_old_file_and_no_rest(tmp_path):
    file = write_text(tmp_path / "new" / "a.txt", "old")
    with pytest.raises(KeyboardInterrupt), whole_file(file) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text("utf-8") == "old" and [p.name for p in file.parent.iterdir()] == ["a.txt"]


def test_rows_hold_characters_that_other_readers_take_for_line_ends(tmp_path):
    rows = [{"text": "한 줄\u2028아직 같은 줄\u0085끝"}, {"text": "둘째"}]
    assert write_jsonl(tmp_path / "rows.jsonl", iter(rows)) == 2
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
    with pytest.raises(ValueError):
        read_jsonl(write_text(tmp_path / "bad.jsonl", '{"a": 1}\n{"a": '))


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "첫 줄\n\n둘째 줄\n".encode())
    assert read_lines(tmp_path / "a.txt") == ["첫 줄", "둘째 줄"]
    assert write_json(tmp_path / "a.json", {"한": 1}, indent=None).read_text("utf-8") == '{"한": 1}\n'
