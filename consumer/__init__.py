"""The worker: poll, fold, commit, audit thread."""
