-- An answer that the service decides: the one that the key has already, else this one, which is kept. NOT_ALLOWED is not: who
-- is given the right repeats the request.
CREATE FUNCTION answer_step(p_key uuid, p_body bytea, p_outcome smallint, p_subject uuid) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    ELSIF p_outcome = ${StepOutcome.NOT_ALLOWED} THEN
        RETURN (p_outcome, NULL, NULL, NULL)::answer;
    END IF;
    RETURN close_step(p_key, p_body, clock_us(), p_outcome, p_subject, NULL, NULL);
END $$;
