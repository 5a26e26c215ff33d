"""The version, and where its manual is, in one place."""

__version__ = "0.1.0.dev0"
# The root of the manual; setup.cfg names it to package indexes.
DOCUMENTATION = "https://skae.readthedocs.io/en/latest"
PAGE_OF_CLASS = DOCUMENTATION + "/api/generated/skae.{estimator_name}.html"
