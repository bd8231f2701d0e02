"""The HTTP service, and a web page over it.

    python -m pipeline.serve --port 8000

It answers on this machine alone unless --host says otherwise. `GET /openapi.json` describes the interface; the page is
at `/`. Photos are worked on in memory and forgotten, unless --save-feedback names a file and somebody ticks the box.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

from common.errors import UserError, exit_with
from pipeline.run import add_model_options, positive, speak_utf8

KEY = "DAETGEUL_API_KEY"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(prog="python -m pipeline.serve", description=__doc__.split("\n")[0])
    p.add_argument("--host", default="127.0.0.1", help="address to answer on (default: this machine alone)")
    p.add_argument("--port", type=int, default=8000, metavar="N", help="port; 0 takes a free one (default: 8000)")
    add_model_options(p)
    p.add_argument("--workers", type=positive, default=2, metavar="N", help="requests worked on at once (default: 2)")
    p.add_argument(
        "--queue", type=int, default=16, metavar="N", help="requests that may wait; the next gets 503 (default: 16)"
    )
    p.add_argument("--timeout", type=float, default=30, metavar="S", help="seconds for a request (default: 30)")
    p.add_argument("--api-key-env", metavar="NAME", help=f"variable that holds the API key (default: {KEY}, if set)")
    p.add_argument("--cors", metavar="ORIGIN", help="let pages of this origin ask, too, e.g. https://example.org")
    p.add_argument("--save-feedback", metavar="FILE", type=Path, help="JSONL file for corrections that people offer")
    return p


def main(argv: list[str] | None = None) -> int:
    """Serve until stopped."""
    args = parser().parse_args(sys.argv[1:] if argv is None else argv)
    if args.queue < 0 or args.timeout <= 0:
        raise UserError(f"--queue must be at least 0 and --timeout above 0, but got {args.queue} and {args.timeout:g}")
    key = _api_key(args.api_key_env)
    if args.save_feedback and not args.save_feedback.parent.is_dir():
        raise UserError(f"--save-feedback {args.save_feedback}: the folder {args.save_feedback.parent} does not exist")
    listener = _listen(args.host, args.port)
    with listener:
        app = _app(args, key)
        _serve(app, listener, args)
    return 0


def _app(args: argparse.Namespace, key: str | None):
    try:
        from pipeline.api.app import Serving, create_app
    except ImportError as error:
        raise UserError(f"the service needs {error.name}: pip install 'daetgeul[app]'") from None
    from pipeline.api.engine import Engine
    from pipeline.commenter import PhotoCommenter

    commenter = PhotoCommenter(
        args.lang, args.writer, args.objects, args.emotion, args.style, args.device, workers=args.workers
    )
    serving = Serving(args.workers, args.queue, args.timeout, key, args.cors, args.save_feedback)
    return create_app(Engine(commenter), serving)


def _serve(app, listener: socket.socket, args: argparse.Namespace) -> None:
    import uvicorn

    host, port = listener.getsockname()[:2]
    print(f"http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C ends it)", flush=True)
    # requests that are inside when it is stopped are done first
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, timeout_graceful_shutdown=int(args.timeout) + 1
    )
    uvicorn.Server(config).run(sockets=[listener])


def _api_key(name: str | None) -> str | None:
    """The key in a variable of the environment: on the command line, every user of the machine could read it."""
    key = os.environ.get(name or KEY, "")
    if name and not key:
        raise UserError(f"--api-key-env {name}: the environment has no such variable, or it is empty")
    return key or None


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket; taken before models load, so that a port in use is told at once."""
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(kind, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot answer on {host}:{port}: {reason}") from None
    return listener


if __name__ == "__main__":
    speak_utf8()
    exit_with(main)
