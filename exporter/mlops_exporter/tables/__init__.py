"""The columnar door: files, directories, object stores and databases as Arrow batches."""
