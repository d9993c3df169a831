"""What is done to a server: each scenario checks everything it receives and raises `Inexact` where anything is wrong."""
