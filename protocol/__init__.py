"""The wire protocol of tchat: messages, codec, catalogues, and the client. Imports nothing else of ours."""
