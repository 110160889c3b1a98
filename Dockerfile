# zerocon with the CPU build of torch. Full-size weights and edited images are mounted, not copied:
#
#     docker build -t zerocon .
#     docker run --rm -v "$PWD:/data" zerocon edit photo.png --to blue --model mini
#     docker run --rm -v "$PWD:/data" -v ~/.cache/huggingface:/cache/huggingface zerocon edit cat.jpg --to dog
FROM python:3.11-slim

ENV HF_HOME=/cache/huggingface ZEROCON_CACHE=/cache/zerocon PIP_NO_CACHE_DIR=1

# Installed before the package, whose own dependency would fetch the CUDA build. It satisfies that dependency.
RUN pip install "torch>=2.11,<3" --index-url https://download.pytorch.org/whl/cpu

COPY . /src
RUN pip install "/src[plots,heic]" && rm -rf /src \
    && useradd --create-home user && mkdir -p /cache /data && chown user /cache /data

USER user
WORKDIR /data
ENTRYPOINT ["zerocon"]
CMD ["--help"]
