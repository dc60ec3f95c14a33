"""The running exporter: its parts, their start and their reload."""
