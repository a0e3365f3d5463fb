/* Waits for so many processes, of which some may be killed. */
static int supervise(int processes, int killed)
{
	int status, bad = 0;

	while (processes-- > 0 && wait(&status) > 0) {
		if (!WIFSIGNALED(status) || killed-- <= 0)
			bad |= status;
		pass();
	}
	return bad != 0;
}
