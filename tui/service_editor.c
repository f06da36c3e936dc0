/* service_editor.c - see service_editor.h. */
#include "tui/service_editor.h"

#include "engine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *first_set(const char *const *names)
{
    for (; *names; names++) {
        const char *value = getenv(*names);
        if (value && *value) return value;
    }
    return NULL;
}

/* The file, with the text in it. */
static bool write_file(struct editor *ed, const char *text, struct err *e)
{
    static const char *const folders[] = { "XDG_RUNTIME_DIR", "TMPDIR", NULL };
    const char *folder = first_set(folders);
    size_t n = strlen(text);
    bool ok;
    int fd;

    if (!folder || *folder != '/' || access(folder, W_OK)) folder = "/tmp";
    snprintf(ed->path, sizeof ed->path, "%.4000s/sluice-XXXXXX.txt", folder);
    fd = mkostemps(ed->path, 4, O_CLOEXEC); /* mode 0600 */
    if (fd < 0) {
        err_errno(e, errno, "no file can be made in %s", folder);
        ed->path[0] = 0;
        return false;
    }
    ok = write(fd, text, n) == (ssize_t)n && write(fd, "\n", n > 0) >= 0;
    if (close(fd) || !ok) {
        err_errno(e, errno, "cannot write %s", ed->path);
        unlink(ed->path);
        ed->path[0] = 0;
        return false;
    }
    return true;
}

bool editor_start(struct editor *ed, const char *text, struct err *e)
{
    static const char *const names[] = { "VISUAL", "EDITOR", NULL };
    static const int ours[] = { SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE, SIGWINCH, SIGCONT, SIGHUP,
                                SIGTERM };
    const char *editor = first_set(names);
    char command[EDITOR_PATH_MAX];
    sigset_t none;

    *ed = (struct editor){ .pid = -1 };
    /* A shell reads it, because it may have arguments, and env variables; both make room for the editor, so
     * that it is seen when it stops. */
    if (!editor) snprintf(command, sizeof command, "command -v vi >/dev/null && exec vi \"$@\"; exec nano \"$@\"");
    else if (snprintf(command, sizeof command, "exec env %s \"$@\"", editor) >= (int)sizeof command)
        return err_set(e, ERR_INPUT, "$VISUAL or $EDITOR is too long");
    if (!write_file(ed, text, e)) return false;
    ed->pid = fork();
    if (ed->pid == 0) {
        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) signal(ours[i], SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execl("/bin/sh", "sh", "-c", command, "editor", ed->path, (char *)NULL);
        _exit(127);
    }
    if (ed->pid > 0) return true;
    err_errno(e, errno, "the editor cannot be begun");
    unlink(ed->path);
    return false;
}

bool editor_ended(struct editor *ed)
{
    pid_t got = waitpid(ed->pid, &ed->status, WNOHANG | WUNTRACED);

    if (got != ed->pid) return got < 0 && errno == ECHILD;
    if (!WIFSTOPPED(ed->status)) return true;
    /* The caller has SIGTSTP's default action now. A process without a shell above it is not
     * stopped by it: then the editor goes on at once. */
    raise(SIGTSTP);
    kill(ed->pid, SIGCONT);
    return false;
}

void editor_hang_up(struct editor *ed)
{
    kill(ed->pid, SIGHUP);
    kill(ed->pid, SIGCONT);
}

char *editor_finish(struct editor *ed, struct err *e)
{
    char *text = NULL;
    size_t bytes;

    if (!WIFEXITED(ed->status))
        err_set(e, ERR_INPUT, "The editor was ended by signal %d; the text is as it was", WTERMSIG(ed->status));
    else if (WEXITSTATUS(ed->status) == 127)
        err_set(e, ERR_INPUT, "There is no such editor: set VISUAL or EDITOR to one");
    else if (WEXITSTATUS(ed->status))
        err_set(e, ERR_INPUT, "The editor ended with status %d; the text is as it was", WEXITSTATUS(ed->status));
    else
        text = file_read(ed->path, EDITOR_TEXT_MAX, &bytes, e);
    unlink(ed->path);
    if (!text) return NULL;
    for (size_t i = 0; i < bytes; i++) /* the text of a prompt has none */
        if (!text[i]) text[i] = ' ';
    if (bytes && text[bytes - 1] == '\n') text[--bytes] = 0;
    return text;
}
