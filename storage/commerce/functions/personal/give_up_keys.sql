-- Neither folder of keys is left: delete what is sealed under the next `p_limit` keys of people, and these keys. Nobody is erased
-- by that: who lost a key gets another one. `given_up` keys, `items` under them, `kept_by_law` of these; when no key is left,
-- none, and the database is free for another key store. The audit has a line for each key.
CREATE FUNCTION give_up_keys(p_limit int, OUT given_up int, OUT items int, OUT kept_by_law int)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v record;
    v_items int;
    v_kept int;
BEGIN
    PERFORM books_serve();  -- which notices a restore: the audit says when the books were saved, until a line is added
    given_up := 0;
    items := 0;
    kept_by_law := 0;
    FOR v IN SELECT x.* FROM (SELECT k.key_id, k.tenant_id, k.person_id FROM personal_keys k WHERE k.erased_us IS NULL
                              ORDER BY k.tenant_id, k.person_id, k.key_kind LIMIT p_limit) x ORDER BY x.person_id LOOP
        PERFORM lock_person(v.person_id);
        CONTINUE WHEN NOT EXISTS (SELECT FROM personal_keys k WHERE k.key_id = v.key_id AND k.erased_us IS NULL);
        SELECT count(*), count(i.keep_us) INTO v_items, v_kept FROM personal_items i
        WHERE i.tenant_id = v.tenant_id AND i.person_id = v.person_id AND i.key_id = v.key_id;
        PERFORM erase_personal_key(v.key_id);
        DELETE FROM personal_keys k WHERE k.key_id = v.key_id;
        PERFORM note_audit(v.tenant_id, 'give_up_key', '${NIL}', v.person_id, concat('items ', v_items));
        given_up := given_up + 1;
        items := items + v_items;
        kept_by_law := kept_by_law + v_kept;
    END LOOP;
    IF given_up = 0 THEN
        DELETE FROM personal_store;
    END IF;
END $$;
