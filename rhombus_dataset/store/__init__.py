"""The files of a dataset: names, schemas, manifest, data files, journal, annotations. The only writer of them."""
