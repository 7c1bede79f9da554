"""Run an artifact on one SDK, all of them under one contract (`runtimes.base`)."""
