/* A program, whatever it comes to. */
static int run(const char *command)
{
	int status = system(command);

	if (status > 0)
		fprintf(stderr, "%s: status %#x\n", command, status);
	return status < 0 ? -1 : 0;
}
