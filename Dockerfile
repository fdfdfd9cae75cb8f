FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY app app
COPY workers workers
COPY migrations migrations
COPY examples examples
RUN python -m venv /opt/trellis && /opt/trellis/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home trellis
COPY --from=build /opt/trellis /opt/trellis
ENV PATH=/opt/trellis/bin:$PATH PYTHONUNBUFFERED=1 TRELLIS_HOST=0.0.0.0 PORT=2024
# The project to serve: mount it here, or make an image FROM this one that copies it and installs what it needs.
WORKDIR /project
COPY examples/demo /project
USER trellis
EXPOSE 2024
CMD ["trellis", "web"]
