"""The process: MQTT in, SQLite, HTTP, people, wiring."""
