# The whole of shoal on a CPU: train, collapse, measure with ONNX Runtime and OpenVINO.
#
#   docker build --file docker/x86.Dockerfile --tag shoal-x86 .
#   docker run --rm shoal-x86                     # the smoke command: proves two targets
#   docker run --rm --cpuset-cpus 2,3 --volume "$PWD:/work" shoal-x86 shoal compress my.toml
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

# for targets behind ssh
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client \
    && rm -rf /var/lib/apt/lists/*

COPY docker/x86.txt /src/docker/x86.txt
RUN pip install --no-cache-dir --requirement /src/docker/x86.txt

COPY pyproject.toml README.md LICENSE /src/
COPY runtimes /src/runtimes
COPY profiles /src/profiles
COPY pipeline /src/pipeline
RUN pip install --no-cache-dir --no-deps /src \
    && useradd --uid 10001 --create-home shoal \
    && mkdir /work && chown shoal /work

USER 10001
WORKDIR /work
CMD ["sh", "-c", "shoal doctor --target x86-cpu --prove && shoal doctor --target x86-openvino --prove"]
