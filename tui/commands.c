/* commands.c - see commands.h. */
#include "tui/commands.h"
#include "tui/cmd.h"
#include "tui/cmd_options.h"

const struct command commands[] = {
    { "studio", "the studio (the same as sluice alone)", cmd_studio, .settings = &cmd_studio_command },
    { "generate", "a picture from a prompt, without the studio", cmd_generate, .settings = &cmd_generate_command },
    { "plan", "where the memory of a picture will go, before it runs", cmd_plan, .settings = &cmd_plan_command },
    { "queue", "jobs that are kept and run one after the other", cmd_queue, .verbs = cmd_queue_verbs },
    { "history", "the pictures that were made: list, search, trash", cmd_history, .verbs = cmd_history_verbs },
    { "decode", "pictures from latents that a stopped batch has kept", cmd_decode, .settings = &cmd_decode_command,
      .takes = TAKES_FILES },
    { "preset", "list, show, compare and check presets: what a picture is", cmd_preset, .verbs = cmd_preset_verbs,
      .takes = TAKES_PRESETS },
    { "profile", "list, show and explain profiles: how memory is used", cmd_profile, .verbs = cmd_profile_verbs,
      .takes = TAKES_PROFILES },
    { "keys", "the keys of the studio, as they are now", cmd_keys, .options = cmd_keys_options },
    { "cache", "what is kept of encoded prompts", cmd_cache, .verbs = cmd_cache_verbs },
    { "inspect", "what a model is", cmd_inspect, .options = cmd_inspect_options, .takes = TAKES_FILES },
    { "bench", "the time and memory that pictures take on this machine", cmd_bench, .settings = &cmd_bench_command },
    { "doctor", "what this machine has for sluice, and what is wrong", cmd_doctor, .options = cmd_doctor_options },
    { "synth", "a model with random weights, for tests and benchmarks", cmd_synth, .options = cmd_synth_options,
      .takes = TAKES_FOLDERS },
    { "completion", "what bash, zsh or fish complete after sluice", cmd_completion, .verbs = cmd_completion_verbs },
    { 0 },
};
