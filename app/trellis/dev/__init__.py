"""One command on a laptop: embedded Postgres and Valkey, web, worker, reload."""
