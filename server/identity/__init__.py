"""Who people are: phone numbers and codes, sign-ins, other issuers' tokens, profiles, services."""
