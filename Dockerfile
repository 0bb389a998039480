# reid-edge on the CPU, with the versions and hashes of locks/:
#   docker build -t reid-edge .
#   mkdir -p runs
#   docker run --rm --user "$(id -u)" -v "$PWD/runs:/srv/reid-edge/runs" reid-edge run --config quickstart
FROM python:3.12-slim-bookworm AS build
WORKDIR /build
COPY requirements.txt ./
COPY locks/requirements.txt locks/requirements-dev.txt locks/nni.txt locks/install_nni.py locks/
RUN python -m venv /opt/reid-edge
ENV PATH=/opt/reid-edge/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The CPU wheels are those of PyTorch's index, in the version that requirements.txt pins; the hashes
# of locks/torch.txt are of the wheels with CUDA.
RUN grep -E '^torch(vision)?==' requirements.txt > torch.txt \
 && python -m pip install --no-deps --index-url https://download.pytorch.org/whl/cpu -r torch.txt
RUN python -m pip install --no-deps --require-hashes -r locks/requirements.txt \
 && python locks/install_nni.py
COPY pyproject.toml README.md LICENSE ./
COPY reid_edge reid_edge
COPY pipeline pipeline
COPY prune prune
COPY quantize quantize
COPY configs configs
# Also what builds the wheel comes from the lock, and stays in this stage.
RUN python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --no-deps --require-hashes -r locks/requirements-dev.txt \
 && PYTHONPATH=/opt/reid-edge/lib/python3.12/site-packages \
    /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && python -m pip install --no-deps dist/*.whl

FROM python:3.12-slim-bookworm
# The compiler is for files of the C engine (export.files=[c]).
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 reid \
 && install -d -o reid /srv/reid-edge
COPY --from=build /opt/reid-edge /opt/reid-edge
ENV PATH=/opt/reid-edge/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /srv/reid-edge
ENTRYPOINT ["reid-edge"]
CMD ["--help"]
