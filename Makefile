# Makefile - sluice: build, run, check, bench.
#
#   make run     install what is missing, build, open the studio on the shipped model
#   make check   install what is missing, build, run every test
#   make         build only          make bench   measure       make install PREFIX=
#   make asan | tsan                 the tests under a sanitizer
#   make kitty-check                 pictures in a real kitty, pixels counted; installs it, and OpenGL in software
#   make gpu-check [OUT=DIR]         with a card: checks, times, a report (needs nvcc, cuBLAS, cuDNN)
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
            libstb-dev libncurses-dev libsixel-dev nettle-dev libsqlite3-dev
TEST_PACKAGES := g++ libcmocka-dev libvterm-dev tmux xterm xvfb x11-apps xdotool imagemagick xfonts-base

OPT ?= -O3 -g
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes
SLUICE_CFLAGS := -std=gnu11 $(OPT) $(WARN) -fno-math-errno -fno-trapping-math -ffp-contract=off -pthread \
                 -fopenmp -I. -D_GNU_SOURCE -DSLUICE_VERSION='"$(VERSION)"' $(CFLAGS)
SLUICE_LDFLAGS := -pthread -fopenmp $(LDFLAGS)
LIBS := -ldnnl -ljansson -lutf8proc -lyaml -lnettle -lsqlite3 -lpng -lz -lncursesw -ltinfo -lsixel -lm

# Of the CUDA device the program itself has only what loads the module.
CUDA_SRC := $(wildcard kernels/cuda_*.c)
CUDA_KERNELS := $(wildcard kernels/cuda_*.cu)
LIB_SRC := $(filter-out $(CUDA_SRC),$(wildcard kernels/*.c engine/*.c))
TUI_SRC := $(wildcard tui/*.c)
TEST_SRC := $(wildcard tests/test_*.c)
TEST_HELP := $(filter-out $(TEST_SRC),$(wildcard tests/*.c))
BENCH_SRC := $(wildcard tests/bench/*.c)

LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
TUI_OBJ := $(TUI_SRC:%.c=$(B)/%.o)
TUI_LINK := $(filter-out $(B)/tui/main.o,$(TUI_OBJ))
HELP_OBJ := $(TEST_HELP:%.c=$(B)/%.o)
TESTS := $(TEST_SRC:tests/%.c=$(B)/tests/%)

# --- the CUDA device ------------------------------------------------------------
# A module of its own, that the program loads if it can. Needs nvcc with cuBLAS, and
# cuDNN 9: in the toolkit, the system's folders, or as pip installs it (CUDNN_HOME=).
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_HOME ?= $(if $(NVCC),$(patsubst %/bin/nvcc,%,$(realpath $(NVCC))))
CUDNN_HOME ?= $(firstword $(foreach d,$(CUDA_HOME) /usr /usr/local \
    $(wildcard $(VIRTUAL_ENV)/lib/python3*/site-packages/nvidia/cudnn $(HOME)/.local/lib/python3*/site-packages/nvidia/cudnn \
               /usr/lib/python3*/dist-packages/nvidia/cudnn /usr/local/lib/python3*/*-packages/nvidia/cudnn),\
    $(if $(wildcard $(d)/include/cudnn.h $(d)/include/*/cudnn.h),$(d))))
# Found once, and not each time that a rule names them.
NVCC := $(NVCC)
CUDA_HOME := $(CUDA_HOME)
CUDNN_HOME := $(CUDNN_HOME)
CUDNN_INCLUDE := $(patsubst %/cudnn.h,%,$(firstword $(wildcard $(CUDNN_HOME)/include/cudnn.h $(CUDNN_HOME)/include/*/cudnn.h)))
CUDA_LIBS := $(firstword $(foreach d,lib64 lib targets/x86_64-linux/lib,$(if $(wildcard $(CUDA_HOME)/$(d)/libcublasLt.so),$(CUDA_HOME)/$(d))))
CUDA_LACKS := $(if $(NVCC),$(if $(CUDA_LIBS),$(if $(CUDNN_INCLUDE),,cuDNN),cuBLAS),nvcc)
CUDA_MODULE := $(if $(CUDA_LACKS),,$(B)/libsluice-cuda.so)
# Of these, the ones this nvcc knows.
CUDA_ARCH ?= $(filter $(patsubst compute_%,%,$(if $(NVCC),$(shell $(NVCC) --list-gpu-arch))),75 80 86 89 90 100 120)
CUDA_ARCH := $(CUDA_ARCH)
# What of the program the module needs as well.
CUDA_SHARED := kernels/err.c kernels/tensor.c kernels/arena.c kernels/device.c

all: $(B)/sluice $(CUDA_MODULE) cuda-note

$(B)/sluice: $(LIB_OBJ) $(TUI_OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) $(SLUICE_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(SLUICE_CFLAGS) $(FILE_CFLAGS) -MMD -MP -c -o $@ $<

# Sums may be reordered into vector lanes here (never across a NaN or infinity).
$(B)/kernels/cpu_vec.o: FILE_CFLAGS := -fassociative-math -fno-signed-zeros -ffp-contract=fast
# stb_image_write shifts into the sign bit.
$(B)/engine/stb_image.o: FILE_CFLAGS := -fwrapv

# Tests can refuse the project's own allocations: tests/alloc_fail.h.
TEST_WRAP := malloc calloc realloc aligned_alloc posix_memalign strdup strndup asprintf vasprintf

$(B)/tests/test_%: $(B)/tests/test_%.o $(HELP_OBJ) $(LIB_OBJ) $(TUI_LINK)
	$(call say,LD,$@)
	$(Q)$(CC) $(SLUICE_LDFLAGS) $(TEST_WRAP:%=-Wl,--wrap=%) -o $@ $^ $(LIBS) -lcmocka -lvterm -lutil

$(B)/bench: $(BENCH_SRC:%.c=$(B)/%.o) $(B)/tests/fake_engine.o $(LIB_OBJ) $(TUI_LINK)
	$(call say,LD,$@)
	$(Q)$(CC) $(SLUICE_LDFLAGS) -o $@ $^ $(LIBS) -lutil

# --- the CUDA device's module --------------------------------------------------
CUDA_CFLAGS := $(SLUICE_CFLAGS) -fPIC -fvisibility=hidden
CUDA_OBJ := $(CUDA_SRC:%.c=$(B)/cuda/%.o) $(CUDA_SHARED:%.c=$(B)/cuda/%.o) $(CUDA_KERNELS:%.cu=$(B)/cuda/%.cu.o)

$(B)/cuda/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$< (cuda))
	$(Q)$(CC) $(CUDA_CFLAGS) -isystem $(CUDNN_INCLUDE) -isystem $(CUDA_HOME)/include -MMD -MP -c -o $@ $<

$(B)/cuda/%.cu.o: %.cu Makefile
	@mkdir -p $(@D)
	$(call say,NVCC,$<)
	$(Q)$(NVCC) -std=c++17 -O3 -lineinfo -I. -Xcompiler -fPIC,-fvisibility=hidden -Werror all-warnings \
	    $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$(a),code=sm_$(a)) \
	    -gencode arch=compute_$(lastword $(CUDA_ARCH)),code=compute_$(lastword $(CUDA_ARCH)) \
	    $(if $(findstring compress-mode,$(shell $(NVCC) --help)),--compress-mode=size) -Xptxas -v --threads 0 -MMD -MP -c -o $@ $< 2>$@.registers || { cat $@.registers >&2; exit 1; }

$(B)/libsluice-cuda.so: $(CUDA_OBJ)
	$(call say,LD,$@)
	$(Q)$(NVCC) -shared -cudart static -o $@ $^ -L$(CUDA_LIBS) -lcublasLt -lm -ldl -Xlinker -z,defs \
	    -Xlinker -rpath,$(CUDNN_HOME)/lib:$(CUDNN_HOME)/lib64:$(CUDA_LIBS) -Xlinker --exclude-libs,ALL

# The same module for the processor: a runtime that only pretends to be one, for tests.
FAKE_OBJ := $(CUDA_SRC:%.c=$(B)/fake/%.o) $(CUDA_SHARED:%.c=$(B)/fake/%.o) $(CUDA_KERNELS:%.cu=$(B)/fake/%.cu.o) \
            $(patsubst %.cpp,$(B)/fake/%.o,$(wildcard tests/cuda/*.cpp))
FAKE_CXXFLAGS := -std=gnu++17 $(OPT) -Wall -Wextra -Werror -Wno-unknown-pragmas -fno-math-errno -fno-trapping-math \
                 -ffp-contract=off -pthread -fopenmp -fPIC -fvisibility=hidden -Itests/cuda/include -I. -D_GNU_SOURCE $(CXXFLAGS)

$(B)/fake/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$< (fake))
	$(Q)$(CC) $(CUDA_CFLAGS) -Itests/cuda/include -MMD -MP -c -o $@ $<

$(B)/fake/%.cu.o: %.cu Makefile
	@mkdir -p $(@D)
	$(call say,CXX,$< (fake))
	$(Q)$(CXX) $(FAKE_CXXFLAGS) -MMD -MP -x c++ -c -o $@ $<

$(B)/fake/%.o: %.cpp Makefile
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) $(FAKE_CXXFLAGS) -MMD -MP -c -o $@ $<

$(B)/fake/libsluice-cuda.so: $(FAKE_OBJ)
	$(call say,LD,$@)
	$(Q)$(CXX) $(SLUICE_LDFLAGS) -shared $(if $(findstring sanitize,$(LDFLAGS)),,-Wl,-z,defs) -o $@ $^

# --- on a card: everything that only a card shows (tests/gpu) ----------------------------------
# A program that needs no library but the module's: what reads JSON is built against a small
# stand-in of jansson, here too, so that it is tested.
OUT ?= $(B)/gpu-report
GPU_SRC := $(wildcard tests/gpu/*.c) tests/gpu/jansson/jansson.c \
           $(patsubst %,tests/%.c,check_ops check_cuda golden_files) \
           $(patsubst %,kernels/%.c,act err tensor arena device count ref cuda) \
           $(patsubst %,engine/%.c,clip config event file flux job layer model nvml pager plan rng safetensors sampler shapes \
             synth t5 taef1 vae weights)
GPU_OBJ := $(patsubst %.c,$(B)/gpu/%.o,$(wildcard $(GPU_SRC)))

$(B)/gpu/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$< (gpu-check))
	$(Q)$(CC) -Itests/gpu/jansson $(SLUICE_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/gpu-check: $(GPU_OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) $(SLUICE_LDFLAGS) -o $@ $^ -ldl -lm

gpu-check: $(B)/gpu-check $(CUDA_MODULE) cuda-note
	@mkdir -p '$(OUT)'
	COMPUTE_SANITIZER='$(firstword $(wildcard $(CUDA_HOME)/bin/compute-sanitizer $(CUDA_HOME)/compute-sanitizer/compute-sanitizer))' \
	    $(B)/gpu-check --out '$(OUT)'

# A libnvidia-ml.so.1 that says what tests tell it to, and one of an older driver.
$(B)/fake/libnvidia-ml.so $(B)/fake/libnvidia-ml-old.so: tests/nvml/fake_nvml.c tests/nvml/fake_nvml.h Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CUDA_CFLAGS) -Wno-missing-prototypes $(if $(findstring old,$@),-DFAKE_OLD) -shared -o $@ $<

$(B)/tests/test_nvml $(B)/tests/test_doctor $(B)/tests/test_devices: | $(B)/fake/libnvidia-ml.so $(B)/fake/libnvidia-ml-old.so

cuda-note:
	$(if $(CUDA_LACKS),@echo "CUDA device left out: $(CUDA_LACKS) was not found (the CPU device does everything)",@:)

# --- the two commands ---------------------------------------------------------
run: setup-build
	@$(MAKE) --no-print-directory all
	$(B)/sluice

check: setup-check
	@$(MAKE) --no-print-directory check-built

check-built: all $(TESTS) $(B)/fake/libsluice-cuda.so $(B)/gpu-check
	$(if $(CUDA_LACKS),,@sh tests/registers.sh $(B) >$(B)/registers.txt || { cat $(B)/registers.txt; exit 1; }; \
	    echo "CUDA kernels, registers and spills of each in $(B)/registers.txt: $$(tail -n 1 $(B)/registers.txt)")
	@sh tests/run.sh $(B)

setup-build:
	@sh tests/setup.sh $(PACKAGES)

setup-check:
	@sh tests/setup.sh $(PACKAGES) $(TEST_PACKAGES)

bench: all $(B)/bench
	$(B)/bench

# What `make check` does in an xterm. Not a part of it: software OpenGL alone is larger than all the rest.
kitty-check: setup-check
	@sh tests/setup.sh kitty libgl1-mesa-dri
	@$(MAKE) --no-print-directory $(B)/tests/test_studio
	@SLUICE_BUILD=$(B) SLUICE_CUDA= OMP_WAIT_POLICY=passive sh tests/kitty.sh

# The README's pictures, made again: look at them before they are committed.
screenshots: all
	@sh tests/screenshot.sh assets

asan:
	$(MAKE) B=build-asan OPT='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer' \
	    LDFLAGS='-fsanitize=address,undefined' check-built

tsan:
	$(MAKE) B=build-tsan OPT='-O1 -g -fsanitize=thread' LDFLAGS='-fsanitize=thread' tsan-built

# What threads share: the engine's, the worker's, the store's and the loop's. libgomp is not instrumented, and its
# own would look like races: one compute thread.
TSAN_TESTS := $(patsubst %,$(B)/tests/test_%,engine plan jobs checkpoint embeddings worker store service service_tokens \
                studio_fuzz studio)
tsan-built: all $(TSAN_TESTS)
	@OMP_THREAD_LIMIT=1 TSAN_OPTIONS=halt_on_error=1 sh tests/run.sh $(B) $(TSAN_TESTS)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 \
	    $(DESTDIR)$(PREFIX)/share/sluice/presets/profiles
	install -m 755 $(B)/sluice $(DESTDIR)$(PREFIX)/bin/sluice
	$(if $(CUDA_MODULE),install -D -m 644 $(CUDA_MODULE) $(DESTDIR)$(PREFIX)/lib/sluice/libsluice-cuda.so)
	install -m 644 man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 presets/*.yaml $(DESTDIR)$(PREFIX)/share/sluice/presets/
	install -m 644 presets/profiles/* $(DESTDIR)$(PREFIX)/share/sluice/presets/profiles/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(B)/sluice completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/sluice
	$(B)/sluice completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_sluice
	$(B)/sluice completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/sluice.fish
	find assets/demo -type f ! -path '*/__pycache__/*' | while read -r f; do \
	    install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/share/sluice/$${f#assets/}" || exit 1; done

clean:
	rm -rf build build-*

.PHONY: kitty-check screenshots all run check check-built gpu-check setup-build setup-check bench asan tsan tsan-built install clean cuda-note
.SECONDARY:

-include $(LIB_OBJ:.o=.d) $(TUI_OBJ:.o=.d) $(HELP_OBJ:.o=.d) $(TESTS:=.d) $(BENCH_SRC:%.c=$(B)/%.d) \
         $(CUDA_OBJ:.o=.d) $(FAKE_OBJ:.o=.d) $(GPU_OBJ:.o=.d)
