"""The embedded default: a tiny base model and word problems, made by the project itself (see README.md here)."""
