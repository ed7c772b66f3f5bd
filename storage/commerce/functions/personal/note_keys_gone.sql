-- These erased keys are gone from the key store, too.
CREATE FUNCTION note_keys_gone(p_keys uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    UPDATE personal_keys k SET gone = true WHERE k.key_id = ANY (p_keys) AND k.erased_us IS NOT NULL AND NOT k.gone;
END $$;
