# docker compose up --build
# The service and its page, offline: the image holds everything, and compose.yaml gives it no way out and nothing to write on.
FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/daetgeul
COPY README.md setup.py pyproject.toml /src/
COPY common /src/common
COPY configs /src/configs
COPY detection /src/detection
COPY language /src/language
COPY datagen /src/datagen
COPY pipeline /src/pipeline
COPY requirements.txt /src/
# exact versions, and only what the extras ask for
RUN /opt/daetgeul/bin/pip install --constraint /src/requirements.txt "/src[app,heic]"

FROM python:3.12-slim-bookworm
RUN groupadd --system --gid 10001 daetgeul && useradd --system --uid 10001 --gid daetgeul --no-create-home daetgeul
COPY --from=build /opt/daetgeul /opt/daetgeul
ENV PATH=/opt/daetgeul/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "pipeline.serve", "--host", "0.0.0.0", "--port", "8000"]
