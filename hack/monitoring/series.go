package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// interval is between two scrapes.
const interval = time.Minute

// data are samples in memory. It implements storage.Queryable.
type data struct {
	series map[string]*series
	// end is the time of the latest.
	end time.Time
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// start is when the first scrape is said to have been.
var start = time.Now().Truncate(time.Second)

// load reads the files of a folder.
func load(folder string) (*data, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.prom"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	out := &data{series: map[string]*series{}}
	for _, file := range files {
		number, job, instance, err := parseName(file)
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := out.add(text, start.Add(time.Duration(number)*interval), "job", job, "instance", instance, "pod", instance, "namespace", "fusegate-system"); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if len(out.series) == 0 {
		return nil, fmt.Errorf("nothing was scraped into %s", folder)
	}
	return out, nil
}

func parseName(file string) (number int, job, instance string, err error) {
	parts := strings.Split(strings.TrimSuffix(filepath.Base(file), ".prom"), "_")
	if len(parts) != 3 {
		return 0, "", "", fmt.Errorf("%s is not named NUMBER_JOB_INSTANCE.prom", file)
	}
	number, err = strconv.Atoi(parts[0])
	return number, parts[1], parts[2], err
}

// add takes a text of metrics as of a time; extra are labels of the target.
func (d *data) add(text []byte, at time.Time, extra ...string) error {
	p := textparse.NewPromParser(text, labels.NewSymbolTable(), false)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, value := p.Series()
		var l labels.Labels
		p.Labels(&l)
		b := labels.NewBuilder(l)
		for i := 0; i < len(extra); i += 2 {
			b.Set(extra[i], extra[i+1])
		}
		d.put(b.Labels(), at, value)
	}
}

func (d *data) put(l labels.Labels, at time.Time, value float64) {
	s := d.series[l.String()]
	if s == nil {
		s = &series{labels: l}
		d.series[l.String()] = s
	}
	s.samples = append(s.samples, sample{at.UnixMilli(), value})
	if at.After(d.end) {
		d.end = at
	}
}

// named returns the series of a metric.
func (d *data) named(metric string) (out []*series) {
	for _, s := range d.series {
		if s.labels.Get(model.MetricNameLabel) == metric {
			out = append(out, s)
		}
	}
	return out
}

// Querier implements storage.Queryable.
func (d *data) Querier(mint, maxt int64) (storage.Querier, error) { return querier{d, mint, maxt}, nil }

type querier struct {
	*data
	mint, maxt int64
}

// Select implements storage.Querier.
func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	out := &set{at: -1}
	for _, s := range q.series {
		if !matches(s.labels, matchers) {
			continue
		}
		var in []chunks.Sample
		for _, x := range s.samples {
			if x.T() >= q.mint && x.T() <= q.maxt {
				in = append(in, x)
			}
		}
		out.series = append(out.series, storage.NewListSeries(s.labels, in))
	}
	slices.SortFunc(out.series, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return out
}

func matches(l labels.Labels, matchers []*labels.Matcher) bool {
	return !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}

func (querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) Close() error { return nil }

// set is a storage.SeriesSet.
type set struct {
	series []storage.Series
	at     int
}

func (s *set) Next() bool {
	s.at++
	return s.at < len(s.series)
}

func (s *set) At() storage.Series                { return s.series[s.at] }
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }

// sample is a float at a time in milliseconds.
type sample struct {
	t int64
	v float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
