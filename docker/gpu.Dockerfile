# A datacentre GPU: the worker with TensorRT. The tag decides the release of TensorRT; any from
# 10.3 to 11.4 will do, and the smoke command says which one it is. pycuda is compiled here, the
# image has the compiler and the headers.
#
#   docker build --file docker/gpu.Dockerfile --tag shoal-gpu .
#   docker run --rm --gpus all shoal-gpu          # the smoke command: one node on TensorRT
ARG BASE=nvcr.io/nvidia/tensorrt:25.11-py3
FROM ${BASE}

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

COPY docker/gpu.txt docker/smoke.py /src/docker/
RUN pip install --no-cache-dir --requirement /src/docker/gpu.txt

COPY pyproject.toml README.md LICENSE /src/
COPY runtimes /src/runtimes
COPY profiles /src/profiles
COPY pipeline /src/pipeline
RUN pip install --no-cache-dir --no-deps /src \
    && useradd --uid 10001 --create-home shoal

USER 10001
WORKDIR /home/shoal
CMD ["python3", "/src/docker/smoke.py", "trt", "gpu"]
