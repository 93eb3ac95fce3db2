/*
 * A LADSPA plugin: passes audio on, and sends the peak of each block to the WebSocket server in TAUTLINE_METER_URL.
 *
 * `run` is called on the host's audio thread, and so calls nothing that waits. A level means nothing later: it is refused while
 * the line is down or the outbox is full, and no more than 8 of them wait for a server that is slow.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <ladspa.h>
#include <tautline.h>

enum { INPUT, OUTPUT, PORTS };

struct meter {
    tautline_client line;
    const LADSPA_Data *input;
    LADSPA_Data *output;
    unsigned long sent, refused;
};

static void complain(const char *what, int code) {
    char text[1024];
    tautline_last_error(text, sizeof text);
    fprintf(stderr, "meter: %s: %s: %s\n", what, tautline_error_text(code), text);
}

static LADSPA_Handle instantiate(const LADSPA_Descriptor *descriptor, unsigned long rate) {
    const char *url = getenv("TAUTLINE_METER_URL");
    struct meter *meter = calloc(1, sizeof *meter);
    tautline_options *options = NULL;
    int code;
    (void)descriptor, (void)rate;
    if (meter == NULL) return NULL;
    code = tautline_options_new(url != NULL ? url : "", &options);
    if (code == TAUTLINE_OK) code = tautline_options_refuse_while_down(options, 1);
    if (code == TAUTLINE_OK) code = tautline_options_realtime(options, 8);
    if (code == TAUTLINE_OK) code = tautline_open(options, &meter->line);
    tautline_options_free(options);
    if (code == TAUTLINE_OK) return meter;
    complain("no line", code);
    free(meter);
    return NULL;
}

/* The host is about to run the plugin, and may wait here. */
static void activate(LADSPA_Handle instance) {
    struct meter *meter = instance;
    int code = tautline_wait_ready(meter->line, 1000);
    if (code != TAUTLINE_OK) complain("the line is not ready yet", code);
}

static void connect_port(LADSPA_Handle instance, unsigned long port, LADSPA_Data *data) {
    struct meter *meter = instance;
    if (port == INPUT) meter->input = data;
    if (port == OUTPUT) meter->output = data;
}

static void run(LADSPA_Handle instance, unsigned long count) {
    struct meter *meter = instance;
    float peak = 0;
    unsigned long i;
    for (i = 0; i < count; i++) {
        peak = fmaxf(peak, fabsf(meter->input[i]));
        meter->output[i] = meter->input[i];
    }
    if (tautline_send_binary(meter->line, (const unsigned char *)&peak, sizeof peak) == TAUTLINE_OK)
        meter->sent++;
    else
        meter->refused++;
}

static void cleanup(LADSPA_Handle instance) {
    struct meter *meter = instance;
    tautline_undelivered left = {.size = sizeof left};
    int code = tautline_shutdown(meter->line, TAUTLINE_CLOSE, 500, &left);
    if (code != TAUTLINE_OK) complain("still running", code);
    fprintf(stderr, "meter: %lu levels accepted, %lu refused, %lu never written; %s\n", meter->sent, meter->refused,
            (unsigned long)left.never_written, code == TAUTLINE_OK ? "gone" : "left behind");
    free(meter);
}

static const LADSPA_PortDescriptor directions[PORTS] = {
    LADSPA_PORT_INPUT | LADSPA_PORT_AUDIO,
    LADSPA_PORT_OUTPUT | LADSPA_PORT_AUDIO,
};
static const char *const names[PORTS] = {"Input", "Output"};
static const LADSPA_PortRangeHint hints[PORTS];

static const LADSPA_Descriptor meter = {
    .UniqueID = 4242,
    .Label = "tautline_meter",
    .Properties = LADSPA_PROPERTY_HARD_RT_CAPABLE,
    .Name = "Level meter by WebSocket",
    .Maker = "tautline",
    .Copyright = "MIT OR Apache-2.0",
    .PortCount = PORTS,
    .PortDescriptors = directions,
    .PortNames = names,
    .PortRangeHints = hints,
    .instantiate = instantiate,
    .connect_port = connect_port,
    .activate = activate,
    .run = run,
    .cleanup = cleanup,
};

const LADSPA_Descriptor *ladspa_descriptor(unsigned long index) { return index == 0 ? &meter : NULL; }
