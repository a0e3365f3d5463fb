/* Takes a driver off every PCI device that it has. */
static int unbind_pci(const char *driver)
{
	char pattern[PATH_MAX];
	glob_t found;
	int result = 0;

	snprintf(pattern, sizeof(pattern), "%s/*:*", driver);
	if (glob(pattern, 0, NULL, &found)) {
		errno = ENODEV;
		return -1;
	}
	for (size_t i = 0; i < found.gl_pathc && !result; i++)
		result = unbind(found.gl_pathv[i]);
	globfree(&found);
	return result;
}
