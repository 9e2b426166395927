# The server on a CPU. Models and the project's folder are mounted; see docs/deploy.md.
FROM python:3.12-slim

RUN useradd --uid 1000 --create-home anadil && install --directory --owner anadil --group anadil /data
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY anadil anadil
RUN pip install --no-cache-dir --constraint constraints.txt '.[serve,media]'

USER anadil
VOLUME ["/data"]
EXPOSE 8321
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/ready', timeout=4)"]
ENTRYPOINT ["anadil", "serve", "--host", "0.0.0.0", "--data", "/data", "--no-browser"]
CMD ["/models/default"]
