# Jetson Thor and Orin, JetPack 7: an SBSA board, so TensorRT and CUDA's binding are ordinary wheels
# and the driver is the host's.
#
#   docker build --file docker/jetson-jp7.Dockerfile --tag shoal-jp7 .        # on the board
#   docker run --rm --runtime nvidia shoal-jp7    # the smoke command: one node on TensorRT
FROM ubuntu:24.04

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PATH=/opt/shoal/bin:$PATH

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/shoal

COPY docker/jetson-jp7.txt docker/smoke.py /src/docker/
RUN pip install --no-cache-dir --requirement /src/docker/jetson-jp7.txt

COPY pyproject.toml README.md LICENSE /src/
COPY runtimes /src/runtimes
COPY profiles /src/profiles
COPY pipeline /src/pipeline
RUN pip install --no-cache-dir --no-deps /src \
    && useradd --uid 10001 --create-home --groups video shoal

USER 10001
WORKDIR /home/shoal
CMD ["python3", "/src/docker/smoke.py", "trt", "gpu"]
