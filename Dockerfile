# syntax=docker/dockerfile:1
# Two stages: the first has pip and the build, the second only Python and what was installed.

FROM python:3.11-slim-bookworm AS build
# PyTorch publishes wheels without CUDA on an index of its own; with its URL here the image is several GB smaller:
#   docker build --build-arg TORCH_INDEX=URL .
ARG TORCH_INDEX=""
WORKDIR /src
RUN python -m venv /opt/speechpipe
ENV PATH=/opt/speechpipe/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The big, rarely changing layer first. (The linter takes the optional index for an unpinned package.)
# hadolint ignore=DL3013
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY models models
COPY speechpipe speechpipe
RUN pip install --constraint constraints.txt .
# Weights in the image, so that it needs no network to start: names of bundles with spaces between. With WEIGHTS= the server
# fetches those of its bundles at its first start, into the volume.
ARG WEIGHTS="default"
# hadolint ignore=SC2086
RUN if [ -n "$WEIGHTS" ]; then speechpipe models pull --beside-cards $WEIGHTS; fi

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/speechpipe --create-home speechpipe
COPY --from=build /opt/speechpipe /opt/speechpipe
ENV PATH=/opt/speechpipe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SPEECHPIPE_HOST=0.0.0.0 \
    SPEECHPIPE_STATE_DIR=/var/lib/speechpipe
# It listens on all addresses, and so does not start without keys: docker run -e SPEECHPIPE_API_KEYS='["a-long-key"]' ...
USER 10001
WORKDIR /var/lib/speechpipe
VOLUME /var/lib/speechpipe
EXPOSE 8000
# SIGTERM lets running uploads finish (SPEECHPIPE_DRAIN_TIMEOUT_S, 30 s): give `docker stop` a longer --time.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('SPEECHPIPE_PORT', '8000')}/readyz\", timeout=4)"]
ENTRYPOINT ["speechpipe"]
CMD ["serve"]
