/* Reads what sysfs shows; some attributes answer with an error. */
static int read_attributes(const char *pattern)
{
	glob_t found;
	struct stat stat_;

	if (glob(pattern, 0, NULL, &found))
		return 0;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		if (!stat(found.gl_pathv[i], &stat_) && S_ISREG(stat_.st_mode))
			read_whole(found.gl_pathv[i]);
	}
	globfree(&found);
	return 0;
}
