package install

import "time"

const (
	// A writer that undoes what the guard did is met at once the first few
	// times, as a person would be, and then after twice as long each time, up to
	// fightMax. It is forgiven after fightPeace without an incident.
	fightAtOnce = 3
	fightFirst  = time.Second
	fightMax    = 5 * time.Minute
	fightPeace  = 2 * fightMax
)

// fights remembers how often who changed what.
type fights map[string]*fight

type fight struct {
	times int
	last  time.Time
}

// wait returns how long to wait before putting back what the incident is about;
// zero means to do it now, which counts as having done so.
func (f fights) wait(incident string, now time.Time) time.Duration {
	for key, old := range f {
		if now.Sub(old.last) > fightPeace {
			delete(f, key)
		}
	}
	known := f[incident]
	if known == nil {
		f[incident] = &fight{times: 1, last: now}
		return 0
	}
	if rest := known.last.Add(pauseAfter(known.times)).Sub(now); rest > 0 {
		return rest
	}
	known.times, known.last = known.times+1, now
	return 0
}

func pauseAfter(times int) time.Duration {
	if times < fightAtOnce {
		return 0
	}
	return min(fightFirst<<min(times-fightAtOnce, 20), fightMax)
}
