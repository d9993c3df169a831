"""The scenarios. Each checks everything that it receives, and raises `Inexact` for any error."""
