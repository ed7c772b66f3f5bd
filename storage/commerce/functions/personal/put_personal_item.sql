-- Store an item, or another version of it. AGAIN: the key was erased meanwhile. ITEM_NOT_FOUND: there is no such item to
-- replace (`p_must_be`), or it is another person's. ITEMS_BOUND: the person has `p_most` of this kind. A legal copy that is
-- there stays as it is.
CREATE FUNCTION put_personal_item(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_person uuid, p_item uuid, p_kind smallint, p_key_id uuid,
    p_subject uuid, p_keep_us bigint, p_keep_begins boolean, p_sealed bytea, p_must_be boolean, p_most int
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_found record;
    v_version int;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    PERFORM lock_person(p_person);
    -- All in the result: else the planner may read the whole index of keys that are not erased.
    IF (SELECT k.person_id = p_person AND k.tenant_id = p_tenant AND k.erased_us IS NULL
        FROM personal_keys k WHERE k.key_id = p_key_id) IS NOT TRUE THEN
        RETURN (${StepOutcome.AGAIN}, NULL, NULL, NULL)::answer;
    END IF;
    SELECT i.tenant_id, i.person_id, i.kind INTO v_found FROM personal_items i WHERE i.item_id = p_item;
    IF FOUND AND (v_found.tenant_id, v_found.person_id, v_found.kind) <> (p_tenant, p_person, p_kind) OR NOT FOUND AND p_must_be THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.ITEM_NOT_FOUND}::smallint, NULL, NULL, NULL);
    ELSIF v_found.kind = ${ItemKind.LEGAL_COPY} THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.DONE}::smallint, p_item, NULL, NULL);
    ELSIF v_found.person_id IS NULL AND p_most <= (
        SELECT count(*) FROM (SELECT FROM personal_items i WHERE i.tenant_id = p_tenant AND i.person_id = p_person
                                                       AND i.kind = p_kind LIMIT p_most) x
    ) THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.ITEMS_BOUND}::smallint, NULL, NULL, NULL);
    END IF;
    INSERT INTO personal_items AS i (item_id, tenant_id, person_id, kind, key_id, subject_id, version, at_us, keep_us,
                                     keep_until, sealed)
    VALUES (p_item, p_tenant, p_person, p_kind, p_key_id, p_subject, 1, clock_us(), p_keep_us,
            CASE WHEN p_keep_begins OR EXISTS (SELECT FROM personal_erasures e
                                               WHERE e.tenant_id = p_tenant AND e.person_id = p_person)
                 THEN clock_us() + p_keep_us END, p_sealed)
    ON CONFLICT (item_id) DO UPDATE
    SET key_id = excluded.key_id, version = i.version + 1, at_us = excluded.at_us, keep_us = excluded.keep_us,
        keep_until = excluded.keep_until, sealed = excluded.sealed
    RETURNING i.version INTO v_version;
    PERFORM note_audit(p_tenant, 'put_personal_item', p_actor, p_item, concat_ws(' ', p_kind, v_version));
    RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.DONE}::smallint, p_item, v_version, NULL);
END $$;
