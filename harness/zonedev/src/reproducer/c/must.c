/* A program that must succeed. */
static int must(const char *command)
{
	int status = system(command);

	if (status > 0)
		errno = ECANCELED;
	return status ? -1 : 0;
}
