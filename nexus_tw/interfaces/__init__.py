"""The seams: what each part must provide so that another can be put in its place."""
