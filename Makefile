# Makefile - sluice: build, run, check, bench.
#
#   make run     install what is missing, build, open the studio on the shipped model
#   make check   install what is missing, build, run every test
#   make         build only          make bench   measure       make install PREFIX=
#   make asan | tsan                 the tests under a sanitizer
#   make clean
#
# Everything built goes to build/ (build-asan/, build-tsan/). No network is used
# but by apt-get, and by that only when a package is missing.

CC ?= cc
PREFIX ?= /usr/local
VERSION := 0.1.0
B ?= build

# `make V=1` shows whole commands.
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)  $(2)")

PACKAGES := gcc make libdnnl-dev libjansson-dev libutf8proc-dev libpng-dev libyaml-dev \
            libstb-dev libncurses-dev libsixel-dev nettle-dev
TEST_PACKAGES := libcmocka-dev libvterm-dev tmux xterm xvfb x11-apps xdotool imagemagick xfonts-base

OPT ?= -O3 -g
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes
SLUICE_CFLAGS := -std=gnu11 $(OPT) $(WARN) -fno-math-errno -fno-trapping-math -ffp-contract=off -pthread \
                 -fopenmp -I. -D_GNU_SOURCE -DSLUICE_VERSION='"$(VERSION)"' $(CFLAGS)
SLUICE_LDFLAGS := -pthread -fopenmp $(LDFLAGS)
LIBS := -ldnnl -ljansson -lutf8proc -lyaml -lnettle -lpng -lz -lncursesw -ltinfo -lsixel -lm

LIB_SRC := $(wildcard kernels/*.c engine/*.c)
TUI_SRC := $(wildcard tui/*.c)
TEST_SRC := $(wildcard tests/test_*.c)
TEST_HELP := $(filter-out $(TEST_SRC),$(wildcard tests/*.c))
BENCH_SRC := $(wildcard tests/bench/*.c)

LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
TUI_OBJ := $(TUI_SRC:%.c=$(B)/%.o)
TUI_LINK := $(filter-out $(B)/tui/main.o,$(TUI_OBJ))
HELP_OBJ := $(TEST_HELP:%.c=$(B)/%.o)
TESTS := $(TEST_SRC:tests/%.c=$(B)/tests/%)

all: $(B)/sluice cuda-note

$(B)/sluice: $(LIB_OBJ) $(TUI_OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) $(SLUICE_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(SLUICE_CFLAGS) $(FILE_CFLAGS) -MMD -MP -c -o $@ $<

# Sums may be reordered into vector lanes here (never across a NaN or infinity).
$(B)/kernels/cpu_vec.o: FILE_CFLAGS := -fassociative-math -fno-signed-zeros -ffp-contract=fast

# Tests can refuse the project's own allocations: tests/alloc_fail.h.
TEST_WRAP := malloc calloc realloc aligned_alloc posix_memalign strdup strndup asprintf vasprintf

$(B)/tests/test_%: $(B)/tests/test_%.o $(HELP_OBJ) $(LIB_OBJ) $(TUI_LINK)
	$(call say,LD,$@)
	$(Q)$(CC) $(SLUICE_LDFLAGS) $(TEST_WRAP:%=-Wl,--wrap=%) -o $@ $^ $(LIBS) -lcmocka -lvterm -lutil

$(B)/bench: $(BENCH_SRC:%.c=$(B)/%.o) $(LIB_OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) $(SLUICE_LDFLAGS) -o $@ $^ $(LIBS)

cuda-note:
	@command -v nvcc >/dev/null 2>&1 || echo "CUDA device left out: nvcc was not found (the CPU device does everything)"

# --- the two commands ---------------------------------------------------------
run: setup-build
	@$(MAKE) --no-print-directory all
	$(B)/sluice

check: setup-check
	@$(MAKE) --no-print-directory check-built

check-built: all $(TESTS)
	@sh tests/run.sh $(B)

setup-build:
	@sh tests/setup.sh $(PACKAGES)

setup-check:
	@sh tests/setup.sh $(PACKAGES) $(TEST_PACKAGES)

bench: all $(B)/bench
	$(B)/bench

asan:
	$(MAKE) B=build-asan OPT='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer' \
	    LDFLAGS='-fsanitize=address,undefined' check-built

tsan:
	$(MAKE) B=build-tsan OPT='-O1 -g -fsanitize=thread' LDFLAGS='-fsanitize=thread' tsan-built

# libgomp is not instrumented: one compute thread, and only what the project's own threads share.
tsan-built: all $(B)/tests/test_engine $(B)/tests/test_plan $(B)/tests/test_jobs
	OMP_NUM_THREADS=1 TSAN_OPTIONS=halt_on_error=1 $(B)/tests/test_engine
	OMP_NUM_THREADS=1 TSAN_OPTIONS=halt_on_error=1 $(B)/tests/test_plan
	OMP_NUM_THREADS=1 TSAN_OPTIONS=halt_on_error=1 $(B)/tests/test_jobs

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 \
	    $(DESTDIR)$(PREFIX)/share/sluice/presets/profiles
	install -m 755 $(B)/sluice $(DESTDIR)$(PREFIX)/bin/sluice
	install -m 644 man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 presets/*.yaml $(DESTDIR)$(PREFIX)/share/sluice/presets/
	install -m 644 presets/profiles/* $(DESTDIR)$(PREFIX)/share/sluice/presets/profiles/
	find assets/demo -type f ! -path '*/__pycache__/*' | while read -r f; do \
	    install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/share/sluice/$${f#assets/}" || exit 1; done

clean:
	rm -rf build build-*

.PHONY: all run check check-built setup-build setup-check bench asan tsan tsan-built install clean cuda-note
.SECONDARY:

-include $(LIB_OBJ:.o=.d) $(TUI_OBJ:.o=.d) $(HELP_OBJ:.o=.d) $(TESTS:=.d) $(BENCH_SRC:%.c=$(B)/%.d)
