"""The files of a dataset: names, schemas, manifest, images, journal, annotations."""
