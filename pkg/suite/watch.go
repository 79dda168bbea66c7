package suite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files have to stay as they are before suites are run
// again: editors write in several steps.
const settle = 100 * time.Millisecond

// Watch finds the suites of the targets on disk and calls run with all of them,
// then, whenever files change, with those that name a changed file or are one
// themselves. run is also told what could not be read. Watch returns when ctx
// ends, with its error, or run returns one.
func Watch(ctx context.Context, targets []string, run func([]*Suite, error) error) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching files: %w", err)
	}
	defer func() { _ = notify.Close() }()
	w := &watcher{notify: notify, targets: targets, run: run, watched: map[string]bool{}, known: map[string]bool{}}
	if err := w.again(nil); err != nil {
		return err
	}
	for {
		changed, err := w.changes(ctx)
		if err != nil {
			return err
		}
		if err := w.again(changed); err != nil {
			return err
		}
	}
}

type watcher struct {
	notify  *fsnotify.Watcher
	targets []string
	run     func([]*Suite, error) error
	watched map[string]bool
	// known are the paths of the suites that were found before.
	known map[string]bool
	// failed tells that something could not be read the last time.
	failed bool
}

// again finds the suites and runs those that are new or that changed concerns.
func (w *watcher) again(changed map[string]bool) error {
	suites, unread := w.find()
	var concerned []*Suite
	for _, s := range suites {
		files := absolute(s)
		w.watch(files)
		if !w.known[s.Path] || w.failed || touches(files, changed) {
			concerned = append(concerned, s)
		}
		w.known[s.Path] = true
	}
	w.failed = unread != nil
	if len(concerned) == 0 && unread == nil {
		return nil
	}
	return w.run(concerned, unread)
}

func (w *watcher) find() ([]*Suite, error) {
	var out []*Suite
	var errs []error
	for _, target := range w.targets {
		w.watchTarget(target)
		suites, err := Find(Disk{}, target)
		out, errs = append(out, suites...), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// watchTarget watches the folders in which suites may come and go.
func (w *watcher) watchTarget(target string) {
	folder, recursive := strings.CutSuffix(filepath.ToSlash(target), "/...")
	if target == "..." {
		folder, recursive = ".", true
	}
	if !recursive {
		if info, err := os.Stat(folder); err == nil && !info.IsDir() {
			folder = filepath.Dir(folder)
		}
		w.add(folder)
		return
	}
	_ = filepath.WalkDir(folder, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			w.add(name)
		}
		return nil // what cannot be read is Find's to report
	})
}

// watch watches the folders of files: editors replace files, and a watch on the
// file itself would end with the old one.
func (w *watcher) watch(files []string) {
	for _, f := range files {
		w.add(filepath.Dir(f))
	}
}

func (w *watcher) add(folder string) {
	folder, err := filepath.Abs(folder)
	if err != nil || w.watched[folder] {
		return
	}
	if w.notify.Add(folder) == nil {
		w.watched[folder] = true
	}
}

// changes waits for the next change and then until nothing changes any more.
func (w *watcher) changes(ctx context.Context) (map[string]bool, error) {
	changed := map[string]bool{}
	var still <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case err := <-w.notify.Errors:
			return nil, fmt.Errorf("watching files: %w", err)
		case e := <-w.notify.Events:
			if e.Op == fsnotify.Chmod {
				continue
			}
			if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
				delete(w.watched, e.Name)
			}
			changed[e.Name] = true
			still = time.After(settle)
		case <-still:
			return changed, nil
		}
	}
}

// absolute are the paths of the suite and all that it names.
func absolute(s *Suite) []string {
	var out []string
	for _, f := range append([]string{filepath.Base(s.Path)}, s.Files()...) {
		if full, err := filepath.Abs(filepath.Join(filepath.Dir(s.Path), filepath.FromSlash(f))); err == nil {
			out = append(out, full)
		}
	}
	return out
}

func touches(files []string, changed map[string]bool) bool {
	for _, f := range files {
		if changed[f] {
			return true
		}
	}
	return false
}
