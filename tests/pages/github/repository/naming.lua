-- It's byte-exact:	tabs  
-- and trailing spaces stay.
print('naming')
