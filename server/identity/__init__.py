"""Who people are: phone numbers and codes, sign-ins, tokens of external issuers, profiles, service accounts."""
