"""The wire protocol of tchat: messages, codecs, catalogues. Imports no other package of this repository."""
