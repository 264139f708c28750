# syntax=docker/dockerfile:1
# One image per app, from one file:
#
#   docker build --build-arg APP=hems_load -t twinric/hems-load:0.1.0 .
#   docker build --build-arg APP=ric       -t twinric/ric:0.1.0 .
#   docker build --build-arg APP=e2sim     -t twinric/e2sim:0.1.0 .
#   docker build --build-arg APP=train     -t twinric/train:0.1.0 .      (the only one with torch and ray)
#
# APP names the image; EXTRA is the extra of pyproject.toml that it installs, the same name unless given.
# The command is the chart's or the descriptor's: python -m xapps.hems_load --config FILE.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ARG APP
ARG EXTRA=${APP}
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN test -n "${APP}" || { echo "give --build-arg APP=<app>, for example hems_load, ric, e2sim, train" >&2; exit 1; }
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ric ric
COPY rapps rapps
COPY xapps xapps
COPY dapps dapps
COPY e2sim e2sim
RUN python -m venv /opt/twinric \
 && /opt/twinric/bin/pip install --constraint constraints.txt ".[${EXTRA}]" \
 && /opt/twinric/bin/pip uninstall --yes pip
# An app image that can import torch or ray has grown by gigabytes: fail the build instead.
RUN test "${EXTRA}" = train || ! /opt/twinric/bin/python -c "import torch" 2>/dev/null

FROM python:${PYTHON}
ARG APP
LABEL org.opencontainers.image.title="twinric-${APP}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 twinric && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin twinric
COPY --from=build /opt/twinric /opt/twinric
# The root file system is read-only in the cluster: whatever is written goes to /tmp.
ENV PATH=/opt/twinric/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp OMP_NUM_THREADS=2
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
CMD ["twinric", "apps"]
