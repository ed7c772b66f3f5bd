-- A person deletes an item of their profile. ITEM_NOT_FOUND: there is no such item of this person and kind.
CREATE FUNCTION drop_personal_item(
    p_key uuid, p_body bytea, p_tenant smallint, p_person uuid, p_item uuid, p_kind smallint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_outcome smallint := ${StepOutcome.ITEM_NOT_FOUND};
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    PERFORM lock_person(p_person);
    DELETE FROM personal_items i
    WHERE i.item_id = p_item AND i.person_id = p_person AND i.tenant_id = p_tenant AND i.kind = p_kind
      AND i.keep_us IS NULL;
    IF FOUND THEN
        v_outcome := ${StepOutcome.DONE};
        PERFORM note_audit(p_tenant, 'drop_personal_item', p_person, p_item, '');
    END IF;
    RETURN close_step(p_key, p_body, clock_us(), v_outcome, p_item, NULL, NULL);
END $$;
