/* What it came to in the end. */
static int ended(struct blocked *b)
{
	if (!b->ended)
		pthread_join(b->thread, NULL);
	b->ended = 1;
	errno = b->error;
	return b->result;
}
