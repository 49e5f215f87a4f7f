# Two images: `cpu` for everything, `gpu` for workers on NVIDIA. Both hold the hashed lock, our wheel and nothing else.

FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

FROM python:3.13-slim-bookworm AS installer
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/venv
WORKDIR /build
RUN uv venv /opt/venv

FROM installer AS wheel
COPY . .
RUN uv build --wheel --require-hashes --build-constraints requirements.lock --out-dir /wheel

FROM installer AS cpu-packages
COPY requirements-cpu.lock .
RUN uv pip sync --require-hashes --only-binary :all: --compile-bytecode requirements-cpu.lock
RUN --mount=from=wheel,source=/wheel,target=/wheel \
    uv pip install --no-deps --no-index --compile-bytecode /wheel/*.whl

FROM installer AS gpu-packages
COPY requirements-gpu.lock .
RUN uv pip sync --require-hashes --only-binary :all: --compile-bytecode requirements-gpu.lock
RUN --mount=from=wheel,source=/wheel,target=/wheel \
    uv pip install --no-deps --no-index --compile-bytecode /wheel/*.whl

FROM python:3.13-slim-bookworm AS runtime
ENV CXR_AUDIT_HEADS=/audit \
    CXR_BLOBS=/blobs \
    CXR_HOME=/tmp \
    HOME=/tmp \
    PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A new volume takes its owner from the directory that it covers.
RUN groupadd --gid 10001 cxr \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin cxr \
    && install --directory --owner=cxr --group=cxr --mode=0700 /audit /blobs /runs
USER 10001:10001
CMD ["cxr", "api"]

FROM runtime AS gpu
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-packages /opt/venv /opt/venv

# The last stage is what a plain `docker build .` makes.
FROM runtime AS cpu
COPY --from=cpu-packages /opt/venv /opt/venv
