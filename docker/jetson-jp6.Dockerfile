# Jetson Orin, JetPack 6: TensorRT 10.3, CUDA 12.6 and Python 3.10 as Ubuntu's own, in the base.
#
#   docker build --file docker/jetson-jp6.Dockerfile --tag shoal-jp6 .        # on the board
#   docker run --rm --runtime nvidia shoal-jp6    # the smoke command: one node on TensorRT
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-libnvinfer \
    && rm -rf /var/lib/apt/lists/*

COPY docker/jetson-jp6.txt docker/smoke.py /src/docker/
RUN python3 -m pip install --no-cache-dir --requirement /src/docker/jetson-jp6.txt

COPY pyproject.toml README.md LICENSE /src/
COPY runtimes /src/runtimes
COPY profiles /src/profiles
COPY pipeline /src/pipeline
RUN python3 -m pip install --no-cache-dir --no-deps /src \
    && useradd --uid 10001 --create-home --groups video shoal

USER 10001
WORKDIR /home/shoal
CMD ["python3", "/src/docker/smoke.py", "trt", "gpu"]
