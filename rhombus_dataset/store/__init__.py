"""The files of a dataset: names, schemas, manifest, data files, journal, annotations. Only this folder writes them."""
