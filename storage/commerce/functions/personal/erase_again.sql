-- Erase a person, who is locked, once more after a restore, whatever is open of them; 1 if anything is, which the audit names.
CREATE FUNCTION erase_again(p_tenant smallint, p_person uuid) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_open int;
BEGIN
    PERFORM lock_belongings(p_tenant, p_person);
    v_open := list_open_money(p_tenant, p_person);
    PERFORM close_person(p_tenant, p_person, gen_random_uuid(), clock_us());
    PERFORM note_audit(p_tenant, 'erase_again', '${NIL}', p_person, CASE WHEN v_open > 0 THEN concat('open ', v_open) ELSE '' END);
    RETURN sign(v_open);
END $$;
