# The platform, in three sizes from one build: `gateway` answers requests and runs jobs that need no training library;
# `trainer` has PyTorch as well, for fine-tuning, benchmarks and pulling models; `triton` has a tritonserver.
#
#   docker build -f deploy/docker/sightline.Dockerfile --target gateway -t sightline-gateway:0.1.0 .
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/sightline
ENV PATH=/opt/sightline/bin:$PATH
WORKDIR /source
# What changes seldom comes first: the packages are a layer that a change of the platform's own code leaves alone.
COPY pyproject.toml constraints.txt deploy/docker/requirements.py ./
# cpu or gpu: the build of ONNX Runtime that the embedded runtime uses. With Triton, cpu is right on every machine.
ARG ENGINE=cpu
RUN python requirements.py "${ENGINE}" triton postgres s3 otel >requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE ./
COPY models models
COPY services services
COPY gateway gateway
COPY sightline sightline
RUN pip install --no-deps .

FROM build AS build-trainer
# PyTorch comes alone and first. Another index than the default one has the builds without CUDA.
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
# hadolint ignore=DL3013 # its version is in TORCH
RUN pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "${TORCH}"
RUN python requirements.py train >train.txt \
    && pip install --constraint constraints.txt --requirement train.txt

FROM build AS build-triton
COPY deploy/triton/requirements.txt triton.txt
RUN python -m venv /opt/triton \
    && /opt/triton/bin/pip install --no-deps --requirement triton.txt

FROM python:${PYTHON} AS runtime
RUN groupadd --gid 10001 sightline \
    && useradd --uid 10001 --gid sightline --no-create-home --home-dir /var/lib/sightline --shell /usr/sbin/nologin sightline \
    && install --directory --owner=sightline --group=sightline --mode=0750 /var/lib/sightline /var/lib/sightline/models
COPY deploy/docker/probe.py /usr/local/lib/sightline/probe.py
ENV PATH=/opt/sightline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SIGHTLINE_DATA_DIR=/var/lib/sightline \
    SIGHTLINE_HOST=0.0.0.0 \
    SIGHTLINE_PORT=8000
VOLUME /var/lib/sightline
WORKDIR /var/lib/sightline
USER 10001:10001
ENTRYPOINT ["sightline"]

FROM runtime AS trainer
COPY --from=build-trainer /opt/sightline /opt/sightline
CMD ["worker", "--queue", "finetune"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-I", "/usr/local/lib/sightline/probe.py", "process", "sightline.launcher.background"]

FROM runtime AS triton
COPY --from=build /opt/sightline /opt/sightline
COPY --from=build-triton /opt/triton /opt/triton
ENV SIGHTLINE_TRITON_SERVER=/opt/triton
EXPOSE 8000 8001 8002 8003
CMD ["triton", "up", "--cpu", "--host=0.0.0.0", "--port=8000"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-I", "/usr/local/lib/sightline/probe.py", "http", "http://127.0.0.1:8000/v2/health/ready"]

FROM runtime AS gateway
COPY --from=build /opt/sightline /opt/sightline
EXPOSE 8000
CMD ["serve"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-I", "/usr/local/lib/sightline/probe.py", "http", "http://127.0.0.1:8000/readyz"]
